#include "flowmatch/model/eval_scope.hpp"

#include "tests/support/networks.hpp"

namespace {

/// Counts how often its mode is written.
struct CountingImpl : torch::nn::Module {
  explicit CountingImpl(int depth = 0) {
    if (depth > 0) {
      inner = register_module("inner", std::make_shared<CountingImpl>(depth - 1));
      other = register_module("other", std::make_shared<CountingImpl>(0));
    }
  }
  void train(bool on = true) override {
    ++writes;
    torch::nn::Module::train(on);
  }
  std::shared_ptr<CountingImpl> inner, other;
  int writes = 0;
};

std::vector<bool> modes(const torch::nn::Module& module) {
  std::vector<bool> found;
  for (const auto& each : module.modules()) found.push_back(each->is_training());
  return found;
}

}  // namespace

TEST_CASE("eval_scope: every mixture of modes comes back") {
  const auto root = std::make_shared<CountingImpl>(2);
  const std::vector<std::shared_ptr<CountingImpl>> all = {root, root->inner, root->other,
                                                          root->inner->inner, root->inner->other};
  REQUIRE(root->modules().size() == all.size());
  for (unsigned mixture = 0; mixture < 32; ++mixture) {
    for (std::size_t i = 0; i < all.size(); ++i) all[i]->train((mixture >> i & 1U) != 0);
    // Setting a parent sets its children: go once more for the children, which come later.
    const std::vector<bool> before = modes(*root);
    {
      const fm::EvalScope scope(*root);
      CHECK(modes(*root) == std::vector<bool>(5, false));
    }
    CHECK(modes(*root) == before);
  }
}

TEST_CASE("eval_scope: a frozen part of a training network stays frozen") {
  networks::Conditional network;
  network->train();
  network->norm->eval();
  { const fm::EvalScope scope(*network); }
  CHECK(network->is_training());
  CHECK(network->conv->is_training());
  CHECK_FALSE(network->norm->is_training());
}

TEST_CASE("eval_scope: nothing is written where all are in evaluation mode") {
  const auto root = std::make_shared<CountingImpl>(1);
  root->eval();
  root->writes = root->inner->writes = root->other->writes = 0;
  { const fm::EvalScope scope(*root); }
  CHECK(root->writes == 0);
  CHECK(root->inner->writes == 0);
  CHECK(root->other->writes == 0);
  root->inner->train();
  { const fm::EvalScope scope(*root); }
  CHECK(root->inner->writes > 1);
}

TEST_CASE("eval_scope: modes come back after an exception too") {
  networks::Mlp network(2, 8, true);
  try {
    const fm::EvalScope scope(*network);
    CHECK_FALSE(network->is_training());
    throw std::runtime_error("sampling failed");
  } catch (const std::runtime_error&) {
  }
  CHECK(network->is_training());
  CHECK(network->layers->is_training());
}

TEST_CASE("eval_scope: a train() that throws leaves the other modes right and ends no program") {
  struct ThrowingImpl : torch::nn::Module {
    void train(bool on = true) override {
      if (on == throws_at) throw std::runtime_error("its own train()");
      torch::nn::Module::train(on);
    }
    bool throws_at = true;
  };
  struct RootImpl : torch::nn::Module {
    RootImpl() {
      first = register_module("first", torch::nn::Linear(1, 1));
      throwing = register_module("throwing", std::make_shared<ThrowingImpl>());
      last = register_module("last", torch::nn::Linear(1, 1));
    }
    torch::nn::Linear first{nullptr}, last{nullptr};
    std::shared_ptr<ThrowingImpl> throwing;
  } root;
  { const fm::EvalScope scope(root); }
  CHECK(root.first->is_training());
  CHECK(root.last->is_training());
  root.throwing->throws_at = false;
  root.train();
  REQUIRE_THROWS_AS(fm::EvalScope(root), std::runtime_error);
  CHECK(root.is_training());
  CHECK(root.first->is_training());
  CHECK(root.throwing->is_training());
  CHECK(root.last->is_training());
}
