#include "flowmatch/io/state_dict_file.hpp"

#include <torch/csrc/jit/serialization/pickle.h>

#include <limits>

#include "tests/io/files.hpp"
#include "tests/support/grouped_locale.hpp"
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
  refused("", "'model' is no tensor; name the part that holds the weights; it holds 'epoch', 'lr'");
  refused("ema", "it has no part 'ema'; it holds 'epoch', 'lr', 'history', 'model'");
  refused("model/none", "it has no part 'none'");
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
  CHECK(same(fm::read_state_dict(python / "uint16.pt").at("a"), torch::arange(2).to(at::kUInt16)));
}

TEST_CASE("state_dict_file: every dtype of Python is read and written again") {
  const TemporaryFolder folder;
  const fm::StateDict state = fm::read_state_dict(python / "dtypes.pt");
  fm::save_state_dict(folder.path() / "a.pt", state);
  const at::Tensor counting = torch::arange(6).view({2, 3});
  for (const auto& read : {state, fm::read_state_dict(folder.path() / "a.pt")}) {
    CHECK(read.size() == 20);
    for (const auto& type : fm::detail::python_dtypes) {
      const std::string name(type.name);
      INFO(name);
      if (name == "complex32") continue;  // Python can't fill one
      REQUIRE(read.contains(name));
      if (name == "bool") {
        CHECK(same(read.at(name), torch::tensor({true, false, true})));
      } else if (name == "float8_e8m0fnu") {
        CHECK(same(read.at(name), torch::tensor({127, 128, 129}, at::kByte).view(type.dtype)));
      } else {
        CHECK(same(read.at(name), counting.to(type.dtype)));
      }
    }
  }
}

TEST_CASE("state_dict_file: plain values beside the tensors are passed over in every protocol") {
  for (const char* file : {"plain_2.pt", "plain_3.pt", "plain_4.pt", "plain_5.pt"}) {
    INFO(file);
    const fm::StateDict state = fm::read_state_dict(python / file);
    CHECK(state.size() == 2);
    CHECK(same(state.at("weight"), torch::arange(6, torch::kFloat).view({2, 3})));
    CHECK(same(state.at("step"), torch::tensor(4)));
    CHECK(fm::read_state_dict(python / file, "empty").empty());
  }
  CHECK(fm::read_state_dict(python / "plain_objects.pt").size() == 1);
}

TEST_CASE("state_dict_file: a part may lie in another one and be named by a number") {
  const auto read = [](const std::string& part) {
    return fm::read_state_dict(python / "nested.pt", part);
  };
  CHECK(same(read("state/model").at("w"), torch::arange(2, torch::kFloat)));
  CHECK(same(read("state/7").at("w"), torch::arange(7, 9, torch::kFloat)));
  CHECK(read("optimizer/state/0").at("exp_avg").sizes() == at::IntArrayRef{2, 1, 3, 3});
  require_error<fm::CheckpointError>([&] { read("state"); }, "'model' is no tensor");
  require_error<fm::CheckpointError>([&] { read("state/"); }, "it has no part ''");
  require_error<fm::CheckpointError>([&] { read("optimizer/param_groups"); }, "no dict of tensors");
}

TEST_CASE("state_dict_file: views and shared and expanded memory are as in Python") {
  const TemporaryFolder folder;
  const fm::StateDict state = fm::read_state_dict(python / "shared.pt");
  CHECK(state.at("a_again").data_ptr() == state.at("a").data_ptr());
  CHECK(state.at("row").storage().is_alias_of(state.at("a").storage()));
  CHECK(state.at("large_view").storage().nbytes() == 4000);
  fm::save_state_dict(folder.path() / "a.pt", state);
  const fm::StateDict again = fm::read_state_dict(folder.path() / "a.pt");
  CHECK(again.at("a_again").data_ptr() == again.at("a").data_ptr());
  CHECK(again.at("transposed").data_ptr() == again.at("a").data_ptr());
  CHECK(again.at("large_view").storage().nbytes() == 8);  // its own elements alone
  CHECK(again.at("expanded").is_contiguous());
  CHECK(again.at("window").is_contiguous());
  const at::Tensor shared = torch::arange(6, torch::kFloat).view({2, 3});
  const at::Tensor complex =
      at::complex(torch::arange(2, torch::kFloat), torch::arange(1, 3, torch::kFloat));
  for (const auto& read : {state, again}) {
    CHECK(read.size() == 13);
    CHECK(same(read.at("a"), shared));
    CHECK(same(read.at("a_again"), shared));
    CHECK(same(read.at("row"), shared[1]));
    CHECK(same(read.at("transposed"), shared.t()));
    CHECK(same(read.at("expanded"), torch::arange(3, torch::kFloat).view({1, 3}).expand({4, 3})));
    CHECK(same(read.at("window"), torch::arange(5, torch::kFloat).unfold(0, 3, 1)));
    CHECK(same(read.at("conj"), complex.conj().resolve_conj()));
    CHECK(same(read.at("neg"), -torch::arange(1, 3, torch::kFloat)));
    CHECK(same(read.at("three_none"), torch::zeros({3, 0})));
    CHECK(same(read.at("none"), torch::zeros({0})));
    CHECK(same(read.at("none_three"), torch::zeros({0, 3})));
    CHECK(same(read.at("scalar"), torch::tensor(5.0F)));
    CHECK(same(read.at("large_view"), torch::zeros({2})));
  }
  CHECK(same(fm::read_state_dict(python / "attribute.pt").at("noted"),
             torch::arange(2, torch::kFloat)));
}

TEST_CASE("state_dict_file: every tensor of a module comes back from the file with its values") {
  const TemporaryFolder folder;
  const at::Tensor base = torch::arange(24, torch::kFloat).view({4, 6});
  const at::Tensor complex = at::complex(torch::rand({3}), torch::rand({3}));
  const at::Tensor infinite = torch::full({2, 2}, -std::numeric_limits<float>::infinity()).triu(1);
  fm::StateDict state{{"zero rows", torch::zeros({0, 3})},
                      {"zero columns", torch::zeros({3, 0})},
                      {"nothing", torch::zeros({0}, at::kBool)},
                      {"scalar", torch::tensor(2.5)},
                      {"expanded", torch::rand({1}).expand({3, 2})},
                      {"steps", base.slice(1, 0, 6, 2)},
                      {"row", base[2]},
                      {"transposed", base.t()},
                      {"conj", complex.conj()},
                      {"negative", at::imag(complex.conj())},
                      {"infinite", infinite},
                      {"windows", base.view({24}).unfold(0, 5, 2)},
                      {"double complex", complex.to(at::kComplexDouble)},
                      {"half complex", complex.to(at::kComplexHalf)},
                      {"int64", torch::tensor({std::numeric_limits<std::int64_t>::min()})},
                      {"many", torch::ones({1, 1, 1, 1, 1, 1, 300})},
                      {"parameter", torch::rand({2}).requires_grad_()}};
  fm::save_state_dict(folder.path() / "a.pt", state);
  const fm::StateDict back = fm::read_state_dict(folder.path() / "a.pt");
  REQUIRE(back.size() == state.size());
  for (const auto& [name, tensor] : state) {
    INFO(name);
    CHECK(same(back.at(name), tensor.detach().resolve_conj().resolve_neg()));
    CHECK_FALSE(back.at(name).requires_grad());
  }
}

TEST_CASE(
    "state_dict_file: what such a file cannot hold is refused by name and an older file stays") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.pt";
  fm::save_state_dict(path, two());
  for (const at::Tensor& tensor :
       {torch::ones({2, 2}).to_sparse(), at::Tensor(), torch::empty({2}, at::kMeta),
        at::quantize_per_tensor(torch::ones({2}), 0.5, 0, at::kQInt8)}) {
    fm::StateDict state = two();
    state["strange one"] = tensor;
    require_error<fm::CheckpointError>([&] { fm::save_state_dict(path, state); },
                                       "can't hold 'strange one'");
  }
  require_error<fm::CheckpointError>(
      [&] {
        fm::save_state_dict(path, fm::StateDict{{"\xff", torch::ones({2})}});
      },
      "in UTF-8");
  CHECK(fm::read_state_dict(path).size() == 2);
}

TEST_CASE("state_dict_file: what Python saved of other things is refused by name") {
  const auto refused = [](const char* file, const std::string& part) {
    INFO(file);
    const auto path = python / "refused" / file;
    try {
      fm::read_state_dict(path);
      FAIL("read");
    } catch (const fm::CheckpointError& error) {
      CHECK_THAT(error.what(), ContainsSubstring(part));
      CHECK_THAT(error.what(), ContainsSubstring(path.string()));
      CHECK_THAT(error.what(), !ContainsSubstring("damaged"));
    }
  };
  refused("old_format.pt", "is a bare pickle (torch.save's old format is one)");
  refused("protocol_0.pt", "none of protocols 2 to 5");
  refused("module.pt", "it holds a 'torch.nn.modules.linear.Linear'; save its state_dict()");
  refused("script.pt", "save its state_dict()");
  refused("tensor.pt", "no dict of tensors");
  refused("list.pt", "no dict of tensors");
  refused("sparse.pt", "'w' is made by 'torch._utils._rebuild_sparse_tensor'");
  refused("quantised.pt", "'w' is made by 'torch._utils._rebuild_qtensor'");
  refused("meta.pt", "'w' is made by 'torch._utils._rebuild_meta_tensor_no_storage'");
  refused("key.pt", "a tensor whose name is no text");
  refused("in_list.pt", "'w' is no tensor; name the part");
  refused("no_tensors.pt", "it holds no tensors; it holds 'epoch'");
  refused("module_beside.pt", "'network' is no tensor; name the part");
  refused("parameters_beside.pt", "'parameters' is no tensor");
  refused("namespace_beside.pt", "'args' is no tensor");
  refused("optimizer_beside.pt", "'optimizer' is no tensor");
  refused("same_name.pt", "by the number 0 and by the text '0'");
}

TEST_CASE("state_dict_file: elements beyond the stored bytes are found") {
  const auto within = [](std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides,
                         std::int64_t offset, std::int64_t room) {
    return fm::detail::lies_within(sizes, strides, offset, room);
  };
  CHECK(within({2, 3}, {3, 1}, 0, 6));
  CHECK_FALSE(within({2, 3}, {3, 1}, 0, 5));
  CHECK_FALSE(within({2, 3}, {3, 1}, 1, 6));
  CHECK(within({3, 2}, {1, 3}, 1, 7));
  CHECK_FALSE(within({3, 2}, {1, 4}, 1, 7));
  CHECK(within({5}, {0}, 6, 7));
  CHECK_FALSE(within({5}, {0}, 7, 7));
  CHECK_FALSE(within({}, {}, 0, 0));
  CHECK(within({}, {}, 0, 1));
  CHECK(within({0, 3}, {3, 1}, 99, 0));
  CHECK(within({3, 0}, {1, 1}, 0, 0));
  CHECK_FALSE(within({3, 2}, {2}, 0, 9));
  CHECK_FALSE(within({2}, {-1}, 1, 9));
  CHECK_FALSE(within({2}, {1}, -1, 9));
  CHECK_FALSE(within({-1}, {1}, 0, 9));
  CHECK_FALSE(within({1LL << 62, 1LL << 62}, {0, 0}, 0, 9));
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

TEST_CASE("state_dict_file: files do not depend on the program's locale") {
  const TemporaryFolder folder;
  fm::StateDict state;
  for (int i = 0; i < 1200; ++i) state.insert("w" + std::to_string(i), torch::full({1}, i));
  fm::save_state_dict(folder.path() / "a.pt", state);
  {
    const GroupedLocale grouped;
    fm::save_state_dict(folder.path() / "b.pt", state);
    CHECK(fm::read_state_dict(folder.path() / "b.pt").at("w1150").item<int>() == 1150);
  }
  CHECK(fm::read_state_dict(folder.path() / "b.pt").at("w1199").item<int>() == 1199);
}

TEST_CASE("state_dict_file: what LibTorch's own pickle_save wrote is read") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.pt";
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("w", torch::arange(6).view({2, 3}));
  const std::vector<char> bytes = torch::jit::pickle_save(dict);
  fm::write_bytes<fm::CheckpointError>(path, {bytes.data(), bytes.size()});
  CHECK(at::equal(fm::read_state_dict(path).at("w"), torch::arange(6).view({2, 3})));
}
