#include "flowmatch/model/state_dict.hpp"

#include <filesystem>

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

TEST_CASE("state_dict: what does not fit is reported and the rest loaded where not strict") {
  Mlp network(2, 16);
  Mlp before(2, 16);
  fm::load_state_dict(*before, fm::state_dict(*network));
  fm::StateDict state;
  for (const auto& entry : fm::state_dict(*network)) state.insert(entry.key(), entry.value() + 1);
  REQUIRE(state.erase("layers.0.bias") == 1);
  state.insert_or_assign("layers.2.weight", torch::zeros({3, 16}));
  state.insert_or_assign("layers.2.bias", at::Tensor());
  state.insert("layers.9.weight", torch::zeros({1}));
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
    torch::nn::Sequential network(torch::nn::Conv2d(1, 2, 3), torch::nn::BatchNorm2d(2),
                                  torch::nn::Linear(2, 3));
    fm::load_state_dict(*network, path.extension() == ".pt" ? fm::read_state_dict(path)
                                                            : fm::load_safetensors(path).tensors);
    std::int64_t i = 0;
    for (const char* name : {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean",
                             "1.running_var", "1.num_batches_tracked", "2.weight", "2.bias"}) {
      INFO(name);
      const at::Tensor tensor = fm::state_dict(*network).at(name);
      CHECK(at::equal(
          tensor,
          torch::arange(i, i + tensor.numel()).view(tensor.sizes()).to(tensor.scalar_type())));
      ++i;
    }
  }
}
