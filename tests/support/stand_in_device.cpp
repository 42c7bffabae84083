// A stand-in for an accelerator, so that machines without one find code that forgets the device:
// all of LibTorch's operations run on the CPU, but only for tensors which a GPU would take
// together. It is there where FLOWMATCH_TEST_DEVICE=stand_in asks for it.
//
// 1. Tensors of two devices in one operation are an error. CPU tensors without dimensions and
//    indices on the CPU are taken where CUDA takes them.
// 2. Its addresses are none of the CPU's, so that reading them ends the program.
// 3. Its generators want its tensors, and a seed gives other numbers than on the CPU.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/MTIAHooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace {

// LibTorch knows this type of device everywhere, and has no operations for it. (PrivateUse1, the
// one for such use, is none to which modules can be moved in C++.)
constexpr c10::DeviceType type = c10::kMTIA;
const c10::Device stand_in(type, 0);

// Memory. What lies at p on the CPU lies at p + far on the stand-in, where no processor reads.

constexpr std::uintptr_t far = std::uintptr_t{1} << 54U;

void* moved(const void* p, std::uintptr_t by) {
  return p == nullptr ? nullptr : reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(p) + by);
}

/// The same memory, on the stand-in.
c10::DataPtr to_stand_in(c10::DataPtr&& memory) {
  auto* const owner = new c10::DataPtr(std::move(memory));
  return {moved(owner->get(), far), owner, [](void* p) { delete static_cast<c10::DataPtr*>(p); },
          stand_in};
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t n) override {
    return to_stand_in(c10::GetCPUAllocator()->allocate(n));
  }
  void copy_data(void* to, const void* from, std::size_t n) const override {
    std::memcpy(moved(to, 0 - far), moved(from, 0 - far), n);
  }
};
Allocator allocator;

at::Tensor with_storage_of(const at::Tensor& like, c10::Storage storage, c10::DispatchKey key) {
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(key), like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(),
                                                      like.storage_offset());
  tensor._set_conj(like.is_conj());
  tensor._set_neg(like.is_neg());
  return tensor;
}

/// A tensor of the stand-in as one of the CPU, in the same memory.
at::Tensor on_cpu(const at::Tensor& tensor) {
  const c10::Storage& storage = tensor.storage();
  return with_storage_of(
      tensor,
      c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), storage.nbytes(),
                                            c10::DataPtr(moved(storage.data(), 0 - far), c10::kCPU),
                                            c10::GetCPUAllocator(), true),
      c10::DispatchKey::CPU);
}

/// A new tensor of the CPU as one of the stand-in.
at::Tensor on_stand_in(const at::Tensor& tensor) {
  c10::StorageImpl* const storage = tensor.storage().unsafeGetStorageImpl();
  const std::size_t bytes = storage->nbytes();
  return with_storage_of(
      tensor,
      c10::make_intrusive<c10::StorageImpl>(
          c10::StorageImpl::use_byte_size_t(), bytes,
          to_stand_in(storage->set_data_ptr(c10::DataPtr(nullptr, c10::kCPU))), &allocator, true),
      c10::DispatchKey::MTIA);
}

/// What an operation did to the CPU's view of a tensor beyond its elements: another size.
void take_back(const at::Tensor& tensor, const at::Tensor& cpu) {
  c10::StorageImpl* const mine = tensor.storage().unsafeGetStorageImpl();
  c10::StorageImpl* const its = cpu.storage().unsafeGetStorageImpl();
  if (its->data() != moved(mine->data(), 0 - far)) {
    const std::size_t bytes = its->nbytes();
    mine->set_data_ptr_noswap(to_stand_in(its->set_data_ptr(c10::DataPtr(nullptr, c10::kCPU))));
    mine->set_nbytes(bytes);
  }
  if (cpu.sizes() != tensor.sizes() || cpu.strides() != tensor.strides()) {
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(cpu.sizes(), cpu.strides(),
                                                        cpu.storage_offset());
  }
}

// Randomness.

struct GeneratorImpl final : c10::GeneratorImpl {
  explicit GeneratorImpl(at::Generator inner)
      : c10::GeneratorImpl(stand_in, c10::DispatchKeySet(c10::DispatchKey::MTIA)),
        cpu(std::move(inner)) {}
  void set_current_seed(std::uint64_t seed) override {
    seed_ = seed;
    cpu.set_current_seed(seed ^ 0x5eedU);
  }
  std::uint64_t current_seed() const override { return seed_; }
  std::uint64_t seed() override {
    set_current_seed(cpu.seed());
    return seed_;
  }
  void set_offset(std::uint64_t) override { TORCH_CHECK(false, "the stand-in has no offsets"); }
  std::uint64_t get_offset() const override { TORCH_CHECK(false, "the stand-in has no offsets"); }
  void set_state(const c10::TensorImpl& state) override {
    cpu.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return cpu.unsafeGetGeneratorImpl()->get_state();
  }
  GeneratorImpl* clone_impl() const override {
    auto* const copy = new GeneratorImpl(cpu.clone());
    copy->seed_ = seed_;
    return copy;
  }

  at::Generator cpu;

 private:
  std::uint64_t seed_ = c10::default_rng_seed_val;
};

const at::Generator& default_generator() {
  static const at::Generator generator =
      at::make_generator<GeneratorImpl>(at::detail::createCPUGenerator(0x5eedU));
  return generator;
}

// The device.

struct Hooks final : at::MTIAHooksInterface {
  bool hasMTIA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return default_generator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return default_generator().clone();
  }
  at::Device getDeviceFromPtr(void*) const override { return stand_in; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return ::type; }
  c10::Device exchangeDevice(c10::Device) const override { return stand_in; }
  c10::Device getDevice() const override { return stand_in; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override {
    return c10::Stream(c10::Stream::DEFAULT, stand_in);
  }
  c10::Stream getDefaultStream(c10::Device) const override { return getStream(stand_in); }
  c10::Stream exchangeStream(c10::Stream) const override { return getStream(stand_in); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};

// Operations.

template <class Names>
bool among(std::string_view name, const Names& names) {
  name.remove_prefix(std::min(name.find("::") + 2, name.size()));
  if (name.ends_with("_") && !name.ends_with("__")) name.remove_suffix(1);
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Those that take CPU tensors without dimensions as they take numbers.
bool takes_numbers(std::string_view name) {
  constexpr std::array names{"add",
                             "sub",
                             "rsub",
                             "mul",
                             "div",
                             "pow",
                             "eq",
                             "ne",
                             "lt",
                             "le",
                             "gt",
                             "ge",
                             "where",
                             "maximum",
                             "minimum",
                             "fmax",
                             "fmin",
                             "clamp",
                             "clamp_min",
                             "clamp_max",
                             "lerp",
                             "addcmul",
                             "addcdiv",
                             "fill",
                             "masked_fill",
                             "logical_and",
                             "logical_or",
                             "logical_xor",
                             "bitwise_and",
                             "bitwise_or",
                             "bitwise_xor",
                             "atan2",
                             "fmod",
                             "remainder",
                             "floor_divide",
                             "xlogy",
                             "copysign",
                             "hypot",
                             "index",
                             "index_put",
                             "_index_put_impl"};
  return among(name, names);
}

bool takes_indices_of_the_cpu(std::string_view name) {
  constexpr std::array names{"index", "index_put", "_index_put_impl"};
  return among(name, names);
}

void check(const std::string& name, const at::Tensor& tensor, bool taken) {
  TORCH_CHECK(tensor.is_mtia() || taken, name, ": expected all tensors to be on ", stand_in,
              ", but one of shape ", tensor.sizes(), " is on ", tensor.device());
}

bool is_written(const c10::Argument& argument) {
  return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

bool may_be_generator(const c10::Argument& argument) {
  const auto* const optional = argument.type()->castRaw<c10::OptionalType>();
  return optional != nullptr && optional->getElementType()->kind() == c10::TypeKind::GeneratorType;
}

/// Says nothing. LibTorch warns of outputs that change their shape, which are its own here: some
/// operations have no other kernel for a device that they do not know.
struct Silence final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

/// Runs an operation on the CPU.
void run(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const std::string& name = schema.name();
  const auto begin = stack->end() - static_cast<std::ptrdiff_t>(schema.arguments().size());
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs;  // of the stand-in, of the CPU

  const auto swap = [&](const at::Tensor& tensor, bool taken) {
    if (!tensor.defined()) return tensor;
    check(name, tensor, taken);
    if (!tensor.is_mtia()) return tensor;
    pairs.emplace_back(tensor, on_cpu(tensor));
    return pairs.back().second;
  };
  for (std::size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::Argument& argument = schema.arguments()[i];
    c10::IValue& value = *(begin + static_cast<std::ptrdiff_t>(i));
    if (value.isTensor()) {
      const at::Tensor tensor = value.toTensor();
      value = swap(tensor, tensor.defined() && tensor.dim() == 0 && !is_written(argument) &&
                               takes_numbers(name));
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> list = value.toTensorVector();
      for (at::Tensor& tensor : list) tensor = swap(tensor, false);
      value = list;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list = value.toOptionalTensorList().copy();
      for (std::size_t k = 0; k < list.size(); ++k) {
        const std::optional<at::Tensor> tensor = list.get(k);
        if (tensor) list.set(k, swap(*tensor, takes_indices_of_the_cpu(name)));
      }
      value = list;
    } else if (value.isGenerator()) {
      const at::Generator generator = value.toGenerator();
      TORCH_CHECK(generator.device().type() == type, name, ": a generator of ", generator.device());
      value = generator.get<GeneratorImpl>()->cpu;
    } else if (value.isDevice()) {
      value = c10::Device(c10::kCPU);
    } else if (value.isNone() && may_be_generator(argument)) {
      value = default_generator().get<GeneratorImpl>()->cpu;
    }
  }

  {
    const at::AutoDispatchBelowADInplaceOrView guard;
    Silence silence;
    const c10::WarningUtils::WarningHandlerGuard no_warnings(&silence);
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }

  for (const auto& [mine, cpu] : pairs) take_back(mine, cpu);
  const auto result = [&](const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    for (const auto& [mine, cpu] : pairs) {
      if (tensor.is_same(cpu)) return mine;
      TORCH_CHECK(!tensor.is_alias_of(cpu), name, ": the stand-in does not know this view");
    }
    return on_stand_in(tensor);
  };
  for (auto it = stack->end() - static_cast<std::ptrdiff_t>(schema.returns().size());
       it != stack->end(); ++it) {
    if (it->isTensor()) {
      *it = result(it->toTensor());
    } else if (it->isTensorList()) {
      std::vector<at::Tensor> list = it->toTensorVector();
      for (at::Tensor& tensor : list) tensor = result(tensor);
      *it = list;
    }
  }
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(c10::DispatchKey::MTIA),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef strides,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, strides, &allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::MTIA),
                                           c10::dtype_or_default(dtype));
}

/// The CPU's have no memory, which its other operations know of.
at::Tensor efficient_zeros(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                           std::optional<at::Layout>, std::optional<at::Device>,
                           std::optional<bool>) {
  return on_stand_in(at::zeros(size, c10::dtype_or_default(dtype)));
}

at::Tensor here(const at::Tensor& tensor) { return tensor.is_mtia() ? on_cpu(tensor) : tensor; }

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  here(to).copy_(here(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, std::int64_t offset,
                        at::IntArrayRef size, at::IntArrayRef strides) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(source));
  self.unsafeGetTensorImpl()->set_sizes_and_strides(size, strides, offset);
  return self;
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
  const auto n = static_cast<std::int64_t>(source.nbytes() / self.dtype().itemsize());
  return set_storage(self, std::move(source), 0, {n}, {1});
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  check("aten::set_", source, false);
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(),
                     source.strides());
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, std::int64_t groups) {
  check("aten::convolution", input, false);
  check("aten::convolution", weight, false);
  std::optional<at::Tensor> cpu_bias;
  if (bias && bias->defined()) {
    check("aten::convolution", *bias, false);
    cpu_bias = on_cpu(*bias);
  }
  return on_stand_in(at::convolution(on_cpu(input), on_cpu(weight), cpu_bias, stride, padding,
                                     dilation, transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, std::int64_t groups, std::array<bool, 3> mask) {
  for (const at::Tensor& tensor : {gradient, input, weight}) {
    check("aten::convolution_backward", tensor, false);
  }
  const std::vector<std::int64_t> bias{transposed ? weight.size(1) * groups : weight.size(0)};
  const auto [a, b, c] =
      at::convolution_backward(on_cpu(gradient), on_cpu(input), on_cpu(weight), bias, stride,
                               padding, dilation, transposed, output_padding, groups, mask);
  const auto there = [](const at::Tensor& tensor) {
    return tensor.defined() ? on_stand_in(tensor) : tensor;
  };
  return {there(a), there(b), there(c)};
}

void register_operations(torch::Library& library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("_efficientzerotensor", efficient_zeros);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("set_.source_Storage", set_whole_storage);
  library.impl("set_.source_Storage_storage_offset", set_storage);
  library.impl("set_.source_Tensor", set_tensor);
  library.impl("convolution_overrideable", convolution);
  library.impl("convolution_backward_overrideable", convolution_backward);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", at::native::view);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("unfold", at::native::unfold);
  library.impl("view_as_real", at::native::view_as_real);
  library.impl("view_as_complex", at::native::view_as_complex);
}

/// What the stand-in registers: before main, and never taken away, as LibTorch's threads may
/// outlive main.
[[maybe_unused]] const std::vector<torch::Library>* const registered = [] {
  const char* const name = std::getenv("FLOWMATCH_TEST_DEVICE");
  auto* const libraries = new std::vector<torch::Library>;
  if (name == nullptr || std::string_view(name) != "stand_in") return libraries;
  c10::SetAllocator(type, &allocator);
  c10::impl::device_guard_impl_registry[static_cast<std::size_t>(type)].store(new Guard);
  at::MTIAHooksRegistry()->Register(
      "MTIAHooks", [](auto&&...) { return std::unique_ptr<at::MTIAHooksInterface>(new Hooks); });
  const auto library = [&](const char* of, c10::DispatchKey key) -> torch::Library& {
    return libraries->emplace_back(torch::Library::IMPL, of, key, __FILE__, __LINE__);
  };
  library("_", c10::DispatchKey::MTIA).fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
  register_operations(library("aten", c10::DispatchKey::MTIA));
  for (const auto key : {c10::DispatchKey::Conjugate, c10::DispatchKey::Negative})
    library("aten", key).impl("_copy_from", torch::CppFunction::makeFallthrough());
  return libraries;
}();

}  // namespace
