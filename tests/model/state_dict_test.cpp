#include "flowmatch/model/state_dict.hpp"

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

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}
void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

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
  network->forward(torch::randn({4, 3, 5, 5}), torch::rand({4}), torch::arange(4));
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
  state.insert_or_assign("layers.2.weight", torch::zeros({3, 16}));
  state.insert("layers.9.weight", torch::zeros({1}));
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
  fm::load_state_dict(*other, fm::read_state_dict(folder.path() / "model.pt"));
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

TEST_CASE("state_dict: a file that is cut or junk or something else is a CheckpointError") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "model.pt";
  fm::save_state_dict(path, fm::state_dict(*Mlp()));
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

TEST_CASE("state_dict: files that can not be read or written are a CheckpointError") {
  const TemporaryFolder folder;
  const std::filesystem::path missing = folder.path() / "none" / "model.pt";
  require_error<fm::CheckpointError>([&] { fm::read_state_dict(missing); },
                                     "cannot read " + missing.string());
  require_error<fm::CheckpointError>([&] { fm::read_state_dict(folder.path()); }, "cannot read");
  require_error<fm::CheckpointError>([&] { fm::save_state_dict(missing, fm::state_dict(*Mlp())); },
                                     "cannot write " + missing.string());
  require_error<fm::CheckpointError>(
      [&] { fm::save_state_dict("/dev/full", fm::state_dict(*Mlp())); }, "cannot write");
}
