#include "flowmatch/optim/module_tensors.hpp"

#include "tests/support/networks.hpp"

TEST_CASE("module_tensors: names come in the module's order and tied tensors keep both") {
  struct TiedImpl : torch::nn::Module {
    TiedImpl() {
      first = register_module("first", torch::nn::Linear(2, 2));
      register_module("second", first);
      register_buffer("mask", on_device::ones({2}));
      register_buffer("none", {});
      to(test_device());
    }
    torch::nn::Linear first{nullptr};
  } module;
  const fm::ModuleTensors tensors(module);
  REQUIRE(tensors.parameters().size() == 4);
  REQUIRE(tensors.parameters()[0].name == "first.weight");
  REQUIRE(tensors.parameters()[2].name == "second.weight");
  REQUIRE(tensors.parameters()[0].tensor.is_same(tensors.parameters()[2].tensor));
  REQUIRE(tensors.parameters()[0].kind == "Float [2, 2] on " + test_device().str());
  REQUIRE(tensors.buffers().size() == 1);
  REQUIRE(tensors.buffers()[0].name == "mask");
  REQUIRE(fm::detail::distinct(module.parameters()).size() == 2);
}

TEST_CASE("module_tensors: values and modes may change and nothing else") {
  networks::Conditional net;
  const fm::ModuleTensors tensors(*net);
  const auto changed = [&](bool parameters, bool buffers) {
    const auto found = tensors.changed();
    return found.parameters == parameters && found.buffers == buffers;
  };
  const at::NoGradGuard no_grad;
  net->conv->weight.fill_(3);
  net->conv->weight.set_data(torch::ones_like(net->conv->weight));
  net->conv->weight.set_requires_grad(false);
  net->eval();
  net->norm->reset_running_stats();
  REQUIRE(changed(false, false));
  REQUIRE_NOTHROW(tensors.require_unchanged("the test"));
  net->norm->register_buffer("more", on_device::ones({1}));
  REQUIRE(changed(false, true));
  require_error<fm::OptionError>([&] { tensors.require_unchanged("the test"); },
                                 "when the test was made");
  require_error<fm::OptionError>([&] { tensors.require_unchanged("the test"); },
                                 "buffer norm.more was added");
  net->unregister_module("embedding");
  REQUIRE(changed(true, true));
  require_error<fm::OptionError>([&] { tensors.require_unchanged("the test"); },
                                 "parameter embedding.weight was removed");
}

TEST_CASE("module_tensors: a sparse tensor is refused by its name", "[sparse]") {
  for (const at::Tensor& sparse :
       {on_device::eye(3).to_sparse(), on_device::eye(3).to_sparse_csr()}) {
    auto net = on_device::module(torch::nn::Linear(2, 2));
    net->register_buffer("graph", sparse);
    require_error<fm::OptionError>([&] { fm::ModuleTensors tensors(*net); },
                                   "the module's graph is sparse");
  }
}
