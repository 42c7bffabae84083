#include "flowmatch/io/state_dict_file.hpp"

#include <torch/csrc/jit/serialization/pickle.h>

#include "tests/io/python_files.hpp"
#include "tests/support/test.hpp"

namespace {

fm::StateDict two() {
  fm::StateDict state;
  state.insert("a", torch::arange(6, torch::kFloat).view({2, 3}));
  state.insert("b", torch::tensor(3, torch::kLong));
  return state;
}
/// Tensor i holds i, i + 1, i + 2, …
void check_counting(const fm::StateDict& state) {
  const std::vector<std::string> names = {"0.weight",
                                          "0.bias",
                                          "1.weight",
                                          "1.bias",
                                          "1.running_mean",
                                          "1.running_var",
                                          "1.num_batches_tracked",
                                          "2.weight",
                                          "2.bias"};
  REQUIRE(state.size() == names.size());
  std::int64_t i = 0;
  for (const auto& entry : state) {  // in Python's order
    CHECK(entry.key() == names[static_cast<std::size_t>(i)]);
    const at::Tensor& tensor = entry.value();
    CHECK(at::equal(tensor,
                    torch::arange(i, i + tensor.numel()).view(tensor.sizes()).to(tensor.dtype())));
    ++i;
  }
}

}  // namespace

TEST_CASE("state_dict_file: tensors come back in order with their dtypes and strides") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.pt";
  fm::StateDict state = two();
  for (const auto dtype : {at::kDouble, at::kHalf, at::kBFloat16, at::kInt, at::kShort, at::kChar,
                           at::kByte, at::kBool, at::kComplexFloat}) {
    state.insert(toString(dtype), torch::ones({3}, dtype));
  }
  state.insert("t", torch::rand({3, 4}).t());
  state.insert("cl", torch::rand({2, 3, 4, 5}).contiguous(at::MemoryFormat::ChannelsLast));
  state.insert("row", torch::rand({3, 4})[1]);
  state.insert("empty", torch::rand({0, 4}));
  fm::save_state_dict(path, state);
  const fm::StateDict back = fm::read_state_dict(path);
  REQUIRE(back.size() == state.size());
  auto other = back.begin();
  for (const auto& entry : state) {
    INFO(entry.key());
    CHECK((*other).key() == entry.key());
    CHECK((*other).value().scalar_type() == entry.value().scalar_type());
    CHECK((*other).value().strides() == entry.value().strides());
    CHECK(at::equal((*other).value(), entry.value()));
    ++other;
  }
}

TEST_CASE("state_dict_file: nothing in the file is code to Python") {
  const TemporaryFolder folder;
  fm::save_state_dict(folder.path() / "a.pt", two());
  // The globals that torch.load(weights_only=True) takes without being told to trust the file.
  std::string pickle = bytes_of(folder.path() / "a.pt");
  for (const char* allowed : {"ctorch._utils\n_rebuild_tensor_v2\n", "ctorch\nFloatStorage\n",
                              "ctorch\nLongStorage\n", "ccollections\nOrderedDict\n"}) {
    const std::size_t at = pickle.find(allowed);
    REQUIRE(at != std::string::npos);
    pickle.erase(at, std::string(allowed).size());
  }
  CHECK(pickle.find("torch") == std::string::npos);
}

TEST_CASE("state_dict_file: reads what Python saved of a module") {
  check_counting(fm::read_state_dict(python / "state_dict.pt"));
}

TEST_CASE("state_dict_file: reads the part that holds the weights") {
  check_counting(fm::read_state_dict(python / "training.pt", "model"));
  const auto refused = [](const std::string& part, const std::string& message) {
    require_error<fm::CheckpointError>([&] { fm::read_state_dict(python / "training.pt", part); },
                                       message);
  };
  refused("", "'epoch' is no tensor; name the part that holds the weights");
  refused("ema", "it has no part 'ema'");
  refused("epoch", "it holds no dict of tensors");
}

TEST_CASE("state_dict_file: reads views and parameters and dtypes as Python saved them") {
  const fm::StateDict state = fm::read_state_dict(python / "views.pt");
  const at::Tensor base = torch::arange(6, torch::kFloat).view({2, 3});
  CHECK(at::equal(state.at("transposed"), base.t()));
  CHECK(state.at("transposed").strides() == base.t().strides());
  CHECK(at::equal(state.at("tail"), base.flatten().slice(0, 2)));
  CHECK(at::equal(state.at("channels_last"), torch::arange(120, torch::kFloat).view({2, 3, 4, 5})));
  CHECK(state.at("channels_last").is_contiguous(at::MemoryFormat::ChannelsLast));
  CHECK(at::equal(state.at("parameter"), torch::arange(2, torch::kFloat)));
  CHECK_FALSE(state.at("parameter").requires_grad());
  CHECK(state.at("empty").sizes() == at::IntArrayRef{0, 3});
  CHECK(state.at("scalar").item<float>() == 7);
  CHECK(at::equal(state.at("bfloat16"), torch::arange(3).to(at::kBFloat16)));
  CHECK(at::equal(state.at("complex128"), torch::arange(2).to(at::kComplexDouble)));
  require_error<fm::CheckpointError>([] { fm::read_state_dict(python / "uint16.pt"); },
                                     "_rebuild_tensor_v3");
}

TEST_CASE("state_dict_file: elements beyond the stored bytes are found") {
  const auto within = [](std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides,
                         std::int64_t offset, std::size_t bytes) {
    at::Tensor tensor = torch::zeros({100});
    return fm::detail::lies_within(tensor.as_strided(sizes, strides, offset), bytes);
  };
  CHECK(within({2, 3}, {3, 1}, 0, 24));
  CHECK_FALSE(within({2, 3}, {3, 1}, 0, 23));
  CHECK_FALSE(within({2, 3}, {3, 1}, 1, 24));
  CHECK(within({3, 2}, {1, 3}, 1, 28));
  CHECK_FALSE(within({3, 2}, {1, 4}, 1, 28));
  CHECK(within({5}, {0}, 6, 28));
  CHECK_FALSE(within({5}, {0}, 7, 28));
  CHECK_FALSE(within({}, {}, 0, 3));
  CHECK(within({0, 3}, {3, 1}, 99, 0));
}

TEST_CASE("state_dict_file: a pickle that claims more than its record holds is refused") {
  const TemporaryFolder folder;
  fm::StateDict state;
  state.insert("a", torch::arange(3, torch::kFloat));
  fm::save_state_dict(folder.path() / "a.pt", state);
  caffe2::serialize::PyTorchStreamReader reader((folder.path() / "a.pt").string());
  auto [pickle, pickle_size] = reader.getRecord("data.pkl");
  auto [values, values_size] = reader.getRecord("data/0");
  REQUIRE(values_size == 12);
  std::string text(static_cast<const char*>(pickle.get()), pickle_size);
  int claims = 0;
  for (std::size_t at = text.find("K\x03"); at != std::string::npos; at = text.find("K\x03", at)) {
    text[at + 1] = 100;  // BININT1: of elements, in storage and tensor
    ++claims;
  }
  REQUIRE(claims == 2);
  {
    caffe2::serialize::PyTorchStreamWriter writer((folder.path() / "b.pt").string());
    writer.writeRecord("data.pkl", text.data(), text.size());
    writer.writeRecord("data/0", values.get(), values_size);
    writer.writeEndOfFile();
  }
  require_error<fm::CheckpointError>([&] { fm::read_state_dict(folder.path() / "b.pt"); },
                                     "'a' reaches beyond what the file holds of it");
}

TEST_CASE("state_dict_file: a file that is cut or junk or something else is a CheckpointError") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "model.pt";
  fm::save_state_dict(path, two());
  const std::string whole = bytes_of(path);
  CHECK_NOTHROW(fm::read_state_dict(path));
  for (std::size_t i = 0; i < 50; ++i) {
    write(path, whole.substr(0, whole.size() * i / 50));
    require_error<fm::CheckpointError>([&] { fm::read_state_dict(path); }, "is damaged or not");
  }
  write(path, std::string(5000, 'x'));
  require_error<fm::CheckpointError>([&] { fm::read_state_dict(path); }, path.string());
  const std::vector<char> number = torch::jit::pickle_save(torch::IValue(3));
  write(path, std::string(number.begin(), number.end()));
  require_error<fm::CheckpointError>([&] { fm::read_state_dict(path); }, "not a file of weights");
}

TEST_CASE("state_dict_file: files that can not be read or written are a CheckpointError") {
  const TemporaryFolder folder;
  const std::filesystem::path missing = folder.path() / "none" / "model.pt";
  require_error<fm::CheckpointError>([&] { fm::read_state_dict(missing); },
                                     "cannot read " + missing.string());
  require_error<fm::CheckpointError>([&] { fm::read_state_dict(folder.path()); }, "cannot read");
  require_error<fm::CheckpointError>([&] { fm::save_state_dict(missing, two()); },
                                     "cannot write " + missing.string());
  require_error<fm::CheckpointError>([&] { fm::save_state_dict("/dev/full", two()); },
                                     "cannot write");
}
