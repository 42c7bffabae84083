#include "flowmatch/model/state_dict.hpp"

#include <cmath>
#include <filesystem>
#include <limits>

#include "flowmatch/io/safetensors.hpp"
#include "tests/support/networks.hpp"

namespace {

using networks::Conditional;
using networks::Mlp;

bool same_weights(const torch::nn::Module& a, const torch::nn::Module& b) {
  const fm::StateDict left = fm::state_dict(a);
  const fm::StateDict right = fm::state_dict(b);
  if (left.size() != right.size()) return false;
  for (const auto& entry : left) {
    if (!at::equal(entry.value(), right.at(entry.key()))) return false;
  }
  return true;
}

/// A module of any tensors.
struct AnyImpl : torch::nn::Module {
  explicit AnyImpl(const fm::StateDict& tensors) {
    for (const auto& [name, tensor] : tensors) register_buffer(name, tensor);
  }
  std::string error_of(const fm::StateDict& state) {
    try {
      fm::load_state_dict(*this, state);
    } catch (const fm::CheckpointError& error) {
      return error.what();
    }
    return "";
  }
  at::Tensor operator()(const std::string& name) const { return fm::state_dict(*this).at(name); }
};

fm::StateDict one(const at::Tensor& tensor) { return {{"a", tensor}}; }

}  // namespace

TEST_CASE("state_dict: it holds parameters and buffers by their names without copies") {
  Conditional network(2);
  const fm::StateDict state = fm::state_dict(*network);
  for (const char* name :
       {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean",
        "norm.running_var", "norm.num_batches_tracked", "embedding.weight"}) {
    CHECK(state.contains(name));
  }
  CHECK(state.size() == 8);
  CHECK(state.at("conv.weight").data_ptr() == network->conv->weight.data_ptr());
  CHECK_FALSE(state.at("conv.weight").requires_grad());
}

TEST_CASE("state_dict: weights and buffers come back from a file") {
  const TemporaryFolder folder;
  torch::manual_seed(0);
  Conditional network(3);
  network->forward(on_device::randn({4, 3, 5, 5}), on_device::rand({4}), on_device::arange(4));
  fm::save_state_dict(folder.path() / "model.pt", fm::state_dict(*network));
  Conditional other(3);
  REQUIRE_FALSE(same_weights(*network, *other));
  const at::Tensor parameter = other->conv->weight;
  fm::load_state_dict(*other, fm::read_state_dict(folder.path() / "model.pt"));
  CHECK(same_weights(*network, *other));
  CHECK(other->norm->num_batches_tracked.item<int>() == 1);
  CHECK(other->conv->weight.is_same(parameter));
  CHECK(other->conv->weight.requires_grad());
}

TEST_CASE("state_dict: a loaded module shares nothing with the state") {
  Mlp network;
  Mlp other;
  fm::load_state_dict(*other, fm::state_dict(*network));
  {
    const at::NoGradGuard no_grad;
    network->parameters()[0].zero_();
  }
  CHECK(other->parameters()[0].abs().sum().item<float>() > 0);
}

TEST_CASE("state_dict: half precision weights become those of the module") {
  Mlp network;
  fm::StateDict half;
  for (const auto& entry : fm::state_dict(*network)) {
    half.insert(entry.key(), entry.value().to(torch::kHalf));
  }
  Mlp other;
  fm::load_state_dict(*other, half);
  for (const auto& entry : fm::state_dict(*other)) {
    CHECK(entry.value().scalar_type() == torch::kFloat);
    CHECK(at::equal(entry.value(), half.at(entry.key()).to(torch::kFloat)));
  }
}

TEST_CASE("state_dict: misfits are listed together and nothing is changed") {
  Mlp network(2, 16);
  Mlp untouched(2, 16);
  fm::load_state_dict(*untouched, fm::state_dict(*network));
  fm::StateDict state;
  for (const auto& entry : fm::state_dict(*network)) {
    state.insert(entry.key(), entry.value() + 1);
  }
  CHECK(state.erase("layers.0.bias") == 1);
  state.insert_or_assign("layers.2.weight", on_device::zeros({3, 16}));
  state.insert("layers.9.weight", on_device::zeros({1}));
  for (const char* part : {"another network", "missing: layers.0.bias",
                           "shape of layers.2.weight: [3, 16] stored, [16, 16] in the module",
                           "unexpected: layers.9.weight"}) {
    require_error<fm::CheckpointError>([&] { fm::load_state_dict(*network, state); }, part);
  }
  CHECK(same_weights(*network, *untouched));
}

TEST_CASE("state_dict: strides of channels last weights come back") {
  const TemporaryFolder folder;
  Conditional network(4);
  network->conv->weight.set_data(
      network->conv->weight.detach().contiguous(at::MemoryFormat::ChannelsLast));
  const auto strides = network->conv->weight.strides().vec();
  REQUIRE(strides != Conditional(4)->conv->weight.strides().vec());
  fm::save_state_dict(folder.path() / "model.pt", fm::state_dict(*network));
  Conditional other(4);
  const at::Tensor parameter = other->conv->weight;
  fm::load_state_dict(*other, fm::read_state_dict(folder.path() / "model.pt"));  // on the CPU
  CHECK(other->conv->weight.device() == test_device());
  CHECK(other->conv->weight.strides().vec() == strides);
  CHECK(other->conv->weight.is_same(parameter));
  CHECK(same_weights(*network, *other));
  // A dtype to convert keeps the module's own strides.
  fm::StateDict half;
  for (const auto& entry : fm::state_dict(*network)) {
    half.insert(entry.key(), entry.value().to(torch::kHalf));
  }
  Conditional plain(4);
  fm::load_state_dict(*plain, half);
  CHECK(plain->conv->weight.is_contiguous());
}

TEST_CASE("state_dict: what does not fit is reported and the rest loaded where not strict") {
  Mlp network(2, 16);
  Mlp before(2, 16);
  fm::load_state_dict(*before, fm::state_dict(*network));
  fm::StateDict state;
  for (const auto& entry : fm::state_dict(*network)) state.insert(entry.key(), entry.value() + 1);
  REQUIRE(state.erase("layers.0.bias") == 1);
  state.insert_or_assign("layers.2.weight", on_device::zeros({3, 16}));
  state.insert_or_assign("layers.2.bias", at::Tensor());
  state.insert("layers.9.weight", on_device::zeros({1}));
  const fm::LoadReport report = fm::load_state_dict(*network, state, {.strict = false});
  CHECK_FALSE(report.fits());
  CHECK(report.missing == std::vector<std::string>{"layers.0.bias"});
  CHECK(report.unexpected == std::vector<std::string>{"layers.9.weight"});
  REQUIRE(report.mismatched.size() == 2);
  CHECK(report.mismatched[0].name == "layers.2.weight");
  CHECK(report.mismatched[0].stored == "[3, 16]");
  CHECK(report.mismatched[0].wanted == "[16, 16]");
  CHECK(report.mismatched[1].stored == "undefined");
  CHECK(report.text() ==
        "  missing: layers.0.bias\n"
        "  shape of layers.2.weight: [3, 16] stored, [16, 16] in the module\n"
        "  shape of layers.2.bias: undefined stored, [16] in the module\n"
        "  unexpected: layers.9.weight\n");
  const fm::StateDict old = fm::state_dict(*before);
  for (const auto& entry : fm::state_dict(*network)) {
    INFO(entry.key());
    const bool fits = entry.key() != "layers.0.bias" && entry.key() != "layers.2.weight" &&
                      entry.key() != "layers.2.bias";
    CHECK(at::equal(entry.value(), old.at(entry.key()) + (fits ? 1 : 0)));
  }
}

TEST_CASE("state_dict: a comparison changes nothing and a whole state fits") {
  Mlp network;
  Mlp other;
  CHECK(fm::compare_state_dict(*other, fm::state_dict(*network)).fits());
  CHECK_FALSE(same_weights(*network, *other));
  const fm::LoadReport report = fm::load_state_dict(*other, fm::state_dict(*network));
  CHECK(report.fits());
  CHECK(report.text().empty());
  CHECK(same_weights(*network, *other));
  const fm::LoadReport none = fm::compare_state_dict(*network, fm::StateDict());
  CHECK(none.missing.size() == 6);
  CHECK(none.unexpected.empty());
}

TEST_CASE("state_dict: a module gets the weights that Python saved") {
  for (const char* file : {"state_dict.pt", "state_dict.safetensors"}) {
    const std::filesystem::path path =
        std::filesystem::path(FLOWMATCH_SOURCE_DIR "/tests/io/python") / file;
    auto network = on_device::module(torch::nn::Sequential(
        torch::nn::Conv2d(1, 2, 3), torch::nn::BatchNorm2d(2), torch::nn::Linear(2, 3)));
    fm::load_state_dict(*network, path.extension() == ".pt" ? fm::read_state_dict(path)
                                                            : fm::load_safetensors(path).tensors);
    std::int64_t i = 0;
    for (const char* name : {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean",
                             "1.running_var", "1.num_batches_tracked", "2.weight", "2.bias"}) {
      INFO(name);
      const at::Tensor tensor = fm::state_dict(*network).at(name);
      CHECK(at::equal(
          tensor,
          on_device::arange(i, i + tensor.numel()).view(tensor.sizes()).to(tensor.scalar_type())));
      ++i;
    }
  }
}

TEST_CASE("state_dict: tensors without elements or dimensions and of any dtype go through",
          "[sparse]") {
  const at::Tensor counting = on_device::arange(6).view({2, 3});
  for (const auto dtype :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort,
        at::kChar, at::kByte, at::kUInt16, at::kUInt32, at::kUInt64, at::kComplexFloat,
        at::kComplexDouble, at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
    INFO(toString(dtype));
    AnyImpl module(one(on_device::zeros({2, 3}).to(dtype)));
    CHECK(module.error_of(one(counting.to(dtype))).empty());
    CHECK(at::equal(module("a").to(at::kDouble), counting.to(at::kDouble)));
  }
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{}, {0}, {3, 0}, {0, 3}}) {
    AnyImpl module(one(on_device::zeros(shape)));
    CHECK(module.error_of(one(on_device::ones(shape))).empty());
    CHECK(at::equal(module("a"), on_device::ones(shape)));
  }
  AnyImpl mask(one(on_device::zeros({2, 2})));
  const at::Tensor infinite =
      on_device::full({2, 2}, -std::numeric_limits<float>::infinity()).triu(1);
  CHECK(mask.error_of(one(infinite)).empty());
  CHECK(at::equal(mask("a"), infinite));
  AnyImpl sparse(one(on_device::zeros({2, 2}).to_sparse()));
  CHECK(sparse.error_of(one(on_device::eye(2).to_sparse())).empty());
  CHECK(at::equal(sparse("a").to_dense(), on_device::eye(2)));
}

TEST_CASE("state_dict: tensors that share memory share it after loading") {
  const at::Tensor base = on_device::zeros({2, 3});
  AnyImpl module({{"base", base},
                  {"again", base},
                  {"row", base[1]},
                  {"transposed", base.t()},
                  {"wide", base[0].unsqueeze(0).expand({4, 3})}});
  const at::Tensor values = on_device::arange(6, torch::kFloat).view({2, 3});
  const fm::StateDict state{{"base", values},
                            {"again", values.clone()},
                            {"row", values[1].clone()},
                            {"transposed", values.t().contiguous()},
                            {"wide", values[0].unsqueeze(0).expand({4, 3}).contiguous()}};
  REQUIRE(module.error_of(state).empty());
  for (const auto& [name, tensor] : state) {
    INFO(name);
    CHECK(at::equal(module(name), tensor));
    CHECK(module(name).storage().is_alias_of(base.storage()));
  }
  fm::StateDict other = state;
  other["row"] = on_device::ones({3});
  const std::string message = module.error_of(other);
  CHECK_THAT(message, ContainsSubstring("values of row: it shares memory in the module"));
  CHECK_FALSE(fm::compare_state_dict(module, other).fits());
  CHECK(at::equal(base, values));  // nothing is changed
  other = state;
  other["wide"] = on_device::rand({4, 3});
  CHECK_THAT(module.error_of(other), ContainsSubstring("values of wide"));
  const fm::LoadReport report =
      fm::load_state_dict(module, {{"row", on_device::ones({3})}}, {.strict = false});
  CHECK(report.conflicting.empty());
  CHECK(at::equal(base[1], on_device::ones({3})));
}

TEST_CASE(
    "state_dict: expanded tensors and windows and conjugates are loaded where that means "
    "something") {
  AnyImpl expanded(one(on_device::zeros({1, 3}).expand({4, 3})));
  const at::Tensor rows = on_device::arange(3, torch::kFloat).expand({4, 3});
  CHECK(expanded.error_of(one(rows.contiguous())).empty());
  CHECK(at::equal(expanded("a"), rows));
  CHECK(expanded.error_of(one(rows + 1)).empty());
  CHECK_THAT(expanded.error_of(one(on_device::arange(12, torch::kFloat).view({4, 3}))),
             ContainsSubstring("values of a"));
  CHECK(at::equal(expanded("a"), rows + 1));

  AnyImpl windows(one(on_device::zeros({5}).unfold(0, 3, 1)));
  const at::Tensor moving = on_device::arange(5, torch::kFloat).unfold(0, 3, 1);
  CHECK(windows.error_of(one(moving.contiguous())).empty());
  CHECK(at::equal(windows("a"), moving));
  CHECK_THAT(windows.error_of(one(on_device::arange(9, torch::kFloat).view({3, 3}))),
             ContainsSubstring("values of a"));
  CHECK(at::equal(windows("a"), moving));

  AnyImpl plain(one(on_device::zeros({4, 3})));
  CHECK(plain.error_of(one(rows)).empty());  // expanded in the state
  CHECK(at::equal(plain("a"), rows));
  CHECK(plain("a").is_contiguous());
  plain("a").select(0, 0).fill_(9);
  CHECK(at::equal(plain("a")[1], rows[1]));

  const at::Tensor complex = at::complex(on_device::rand({3}), on_device::rand({3}));
  AnyImpl conjugate({{"a", on_device::zeros({3}, at::kComplexFloat).conj()}});
  CHECK(conjugate.error_of(one(complex)).empty());
  CHECK(at::equal(conjugate("a"), complex));
  CHECK(conjugate.error_of(one(complex.conj())).empty());
  CHECK(at::equal(conjugate("a"), complex.conj()));
}

TEST_CASE("state_dict: a view of a larger tensor of the module's stays one") {
  const at::Tensor large = on_device::zeros({4, 3});
  AnyImpl module(one(large.slice(0, 0, 2)));
  CHECK(module.error_of(one(on_device::arange(6, torch::kFloat).view({3, 2}).t())).empty());
  CHECK(
      at::equal(large.slice(0, 0, 2), on_device::tensor({{0.0F, 2.0F, 4.0F}, {1.0F, 3.0F, 5.0F}})));
}

TEST_CASE("state_dict: what the module's dtype cannot hold is refused by name", "[sparse]") {
  const auto load = [](const at::Tensor& stored, at::ScalarType dtype) {
    AnyImpl module(one(on_device::zeros(stored.sizes()).to(dtype)));
    const at::Tensor before = module("a").to(at::kComplexDouble);
    const std::string message = module.error_of(one(stored));
    if (!message.empty()) {
      CHECK_THAT(message,
                 ContainsSubstring("type of a: ") && ContainsSubstring("can't hold its values"));
      CHECK(at::equal(module("a").to(at::kComplexDouble), before));  // nothing is changed
      CHECK(fm::load_state_dict(module, one(stored), {.strict = false}).unconvertible.size() == 1);
    } else {
      CHECK(at::equal(module("a").to(at::kComplexDouble), stored.to(dtype).to(at::kComplexDouble)));
    }
    return message.empty();
  };
  CHECK_FALSE(load(on_device::ones({2}, at::kComplexFloat), at::kFloat));
  CHECK(load(on_device::rand({2}), at::kComplexFloat));
  CHECK(load(on_device::rand({2}, at::kComplexDouble), at::kComplexFloat));
  CHECK_FALSE(load(doubles({1e300}).to(at::kComplexDouble), at::kComplexFloat));
  CHECK(load(doubles({0.1, -3}), at::kFloat));
  CHECK(load(doubles({0.1, -3}), at::kBFloat16));
  CHECK(load(doubles({std::nan(""), std::numeric_limits<double>::infinity()}).slice(0, 1),
             at::kHalf));
  CHECK_FALSE(load(doubles({1e300}), at::kFloat));
  CHECK_FALSE(load(doubles({1e5}), at::kHalf));
  CHECK_FALSE(load(on_device::tensor({100000}), at::kHalf));
  CHECK_FALSE(load(on_device::tensor({0.5F}), at::kLong));
  CHECK(load(on_device::tensor({5.0F, -3.0F}), at::kLong));
  CHECK_FALSE(load(doubles({1e30}), at::kLong));
  CHECK_FALSE(load(doubles({std::nan("")}), at::kInt));
  CHECK_FALSE(load(on_device::tensor({-1}), at::kByte));
  CHECK_FALSE(load(on_device::tensor({-1}), at::kUInt64));
  CHECK_FALSE(load(on_device::tensor({256}), at::kByte));
  CHECK(load(on_device::tensor({255}), at::kByte));
  CHECK_FALSE(load(on_device::tensor({2}), at::kBool));
  CHECK(load(on_device::tensor({1, 0}), at::kBool));
  CHECK(load(on_device::tensor({true, false}), at::kFloat));
  CHECK(load(on_device::tensor({3}), at::kFloat));
  CHECK_FALSE(load(on_device::tensor({std::int64_t{1} << 40}), at::kInt));
  CHECK_FALSE(load(on_device::tensor({-2.0F}), at::kFloat8_e8m0fnu));
  CHECK_FALSE(load(on_device::eye(2).to_sparse(), at::kFloat));
  CHECK(load(on_device::zeros({0}, at::kComplexFloat), at::kFloat));
}

TEST_CASE("state_dict: without strictness tensors in conflict stay as they are") {
  const at::Tensor base = on_device::zeros({2, 3});
  AnyImpl module({{"base", base}, {"row", base[1]}, {"alone", on_device::zeros({2})}});
  const fm::LoadReport report = fm::load_state_dict(module,
                                                    {{"base", on_device::ones({2, 3})},
                                                     {"row", 2 * on_device::ones({3})},
                                                     {"alone", on_device::ones({2})}},
                                                    {.strict = false});
  CHECK(report.conflicting == std::vector<std::string>{"base"});
  CHECK(at::equal(base[0], on_device::zeros({3})));
  CHECK(at::equal(module("alone"), on_device::ones({2})));
}

TEST_CASE("state_dict: negated views and expansions of two are loaded by their values") {
  // The imaginary part of a conjugate is a view whose elements are stored negated.
  const at::Tensor complex = on_device::zeros({3}, at::kComplexFloat);
  AnyImpl negated({{"a", at::imag(complex.conj())}});
  REQUIRE(negated("a").is_neg());
  const at::Tensor values = on_device::tensor({1.0F, -2.0F, 3.0F});
  CHECK(negated.error_of(one(values)).empty());
  CHECK(at::equal(negated("a"), values));
  CHECK(at::equal(at::imag(complex), -values));
  AnyImpl both({{"whole", complex}, {"a", at::imag(complex.conj())}});
  const at::Tensor other = at::complex(values + 4, values);
  CHECK(both.error_of({{"whole", other}, {"a", -values}}).empty());
  CHECK(at::equal(complex, other));
  CHECK_THAT(both.error_of({{"whole", other}, {"a", values}}), ContainsSubstring("values of "));

  AnyImpl twice(one(on_device::zeros({1, 3}).expand({2, 3})));
  CHECK(twice.error_of(one(values.expand({2, 3}).contiguous())).empty());
  CHECK(at::equal(twice("a"), values.expand({2, 3})));
}

TEST_CASE("state_dict: sparse tensors are loaded by their values", "[sparse]") {
  AnyImpl module(one(on_device::eye(3).to_sparse()));
  const at::Tensor values = torch::diag(on_device::tensor({1.0F, 0.0F, 3.0F}));
  CHECK(module.error_of(one(values.to_sparse())).empty());
  CHECK(at::equal(module("a").to_dense(), values));
}

TEST_CASE("state_dict: a module's own tensors by other names keep the values that they had") {
  const auto full = [](float value) { return on_device::full({2, 2}, value); };
  AnyImpl module({{"a", full(1)}, {"b", full(2)}, {"c", full(3)}});
  const fm::StateDict own = fm::state_dict(module);
  CHECK(module.error_of({{"a", own.at("b")}, {"b", own.at("a")}, {"c", own.at("c")}}).empty());
  CHECK(at::equal(module("a"), full(2)));
  CHECK(at::equal(module("b"), full(1)));
  CHECK(at::equal(module("c"), full(3)));
  CHECK(module.error_of(own).empty());  // itself
  CHECK(at::equal(module("a"), full(2)));

  // Views of one another's memory, and of another dtype.
  const at::Tensor base = on_device::arange(4, torch::kFloat);
  AnyImpl views(
      {{"head", base.slice(0, 0, 2)}, {"tail", base.slice(0, 2)}, {"wide", doubles({8, 9})}});
  const fm::StateDict parts = fm::state_dict(views);
  CHECK(
      views
          .error_of(
              {{"head", parts.at("tail")}, {"tail", parts.at("wide")}, {"wide", parts.at("head")}})
          .empty());
  CHECK(at::equal(views("head"), on_device::tensor({2.0F, 3.0F})));
  CHECK(at::equal(views("tail"), on_device::tensor({8.0F, 9.0F})));
  CHECK(at::equal(views("wide"), doubles({0, 1})));
}
