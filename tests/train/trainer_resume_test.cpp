// Resuming: a run that was killed and goes on from its checkpoint has to end with the bits of one
// that ran through.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/optim/parameter_groups.hpp"
#include "flowmatch/train/trainer.hpp"
#include "tests/support/kill_at_system_call.hpp"
#include "tests/train/training.hpp"

using namespace training;
namespace fs = std::filesystem;

namespace {

fm::TrainOptions two_epochs() {
  return {.epochs = 2, .learning_rate = 1e-2, .schedule = fm::one_cycle(), .seed = 5};
}

std::vector<fm::OptimizerFactory> optimizers() {
  return {fm::adam({.amsgrad = true}), fm::adamw(), fm::sgd(0.9), fm::rmsprop(0.99, 0.9)};
}

/// Trains through; then with another network up to a kill after step `killed`; then a third network
/// resumes, which has to be at step `from`, and must end with the bits of the first.
template <class MakeNet, class MakeSource>
void require_same_after_resume(const MakeNet& make_net, const MakeSource& make_source,
                               fm::TrainOptions options, std::int64_t killed, std::int64_t from) {
  INFO(options.optimizer.description << ", killed after step " << killed);
  const TemporaryFolder folder;
  options.checkpoints = folder.path() / "through";
  auto through = make_net(1);
  fm::Trainer first(through, noisifier(), options);
  at::manual_seed(77);
  first.fit(make_source());

  options.checkpoints = folder.path() / "killed";
  auto cut = make_net(1);
  fm::Trainer second(cut, noisifier(), options);
  at::manual_seed(77);
  train_until_killed(second, make_source(), killed);
  REQUIRE(!same_bits(*cut, *through));

  auto resumed = make_net(2);
  fm::Trainer third(resumed, noisifier(), options);
  at::manual_seed(123);
  REQUIRE(third.resume());
  REQUIRE(third.steps() == from);
  const fm::TrainResult result = third.fit(make_source());
  REQUIRE(result.steps == first.steps());
  REQUIRE(same_bits(*resumed, *through));
  if (first.ema() != nullptr) {
    REQUIRE(third.ema()->updates() == first.ema()->updates());
    REQUIRE(same_bits(third.ema()->state(), first.ema()->state()));
  }
}

/// Two convolutions, from and to one channel.
struct ConvNetImpl : torch::nn::Module {
  ConvNetImpl() {
    const auto conv = [](std::int64_t in, std::int64_t out) {
      return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).padding(1));
    };
    first = register_module("first", conv(1, 4));
    dropout = register_module("dropout", torch::nn::Dropout(0.2));
    second = register_module("second", conv(4, 4));
    last = register_module("last", torch::nn::Conv2d(torch::nn::Conv2dOptions(4, 1, 1)));
    to(test_device());
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& t) {
    const torch::Tensor h = dropout->forward(torch::silu(first->forward(x)));
    return last->forward(torch::silu(second->forward(h + t.view({-1, 1, 1, 1}))));
  }
  torch::nn::Conv2d first{nullptr}, second{nullptr}, last{nullptr};
  torch::nn::Dropout dropout{nullptr};
};
TORCH_MODULE(ConvNet);

const auto plain_net = [](std::uint64_t seed) { return mlp(seed); };
const auto dropout_net = [](std::uint64_t seed) { return mlp(seed, true); };

}  // namespace

TEST_CASE("trainer: each optimizer resumes bit for bit at an epoch's end") {
  for (const auto& optimizer : optimizers()) {
    fm::TrainOptions options = two_epochs();
    options.optimizer = optimizer;
    require_same_after_resume(plain_net, batches, options, 8, 6);
  }
}

TEST_CASE("trainer: each optimizer resumes bit for bit in mid-epoch") {
  for (const auto& optimizer : optimizers()) {
    fm::TrainOptions options = two_epochs();
    options.optimizer = optimizer;
    options.checkpoint_every = 4;
    require_same_after_resume(plain_net, batches, options, 5, 4);
    require_same_after_resume(plain_net, batches, options, 9, 8);
  }
}

TEST_CASE("trainer: averages and accumulation and clipping resume bit for bit") {
  fm::TrainOptions options = two_epochs();
  options.ema_decay = 0.9;
  options.clip_norm = 0.5;
  options.checkpoint_every = 4;
  require_same_after_resume(plain_net, batches, options, 6, 4);
  options.ema_warmup = false;
  options.accumulate = 4;  // steps of four and of two batches
  options.checkpoint_every = 1;
  require_same_after_resume(plain_net, batches, options, 1, 1);
  require_same_after_resume(plain_net, batches, options, 3, 3);
}

TEST_CASE("trainer: Dropout resumes bit for bit with the default generator") {
  fm::TrainOptions options = two_epochs();
  require_same_after_resume(dropout_net, batches, options, 8, 6);
  options.checkpoint_every = 4;
  require_same_after_resume(dropout_net, batches, options, 5, 4);
}

TEST_CASE("trainer: BatchNorm and labelled images resume bit for bit") {
  const auto net = [](std::uint64_t seed) { return conditional(seed); };
  fm::TrainOptions options = two_epochs();
  options.ema_decay = 0.9;
  require_same_after_resume(net, labelled_images, options, 4, 3);
  options.checkpoint_every = 2;
  require_same_after_resume(net, labelled_images, options, 5, 4);
}

TEST_CASE("trainer: frozen parameters resume bit for bit") {
  const auto net = [](std::uint64_t seed) {
    networks::Mlp made = mlp(seed);
    made->parameters()[2].set_requires_grad(false);
    return made;
  };
  fm::TrainOptions options = two_epochs();
  options.checkpoint_every = 4;
  require_same_after_resume(net, batches, options, 5, 4);
}

TEST_CASE("trainer: channels-last weights resume bit for bit with their strides") {
  const auto net = [](std::uint64_t seed) {
    at::manual_seed(seed);
    return ConvNet();
  };
  const auto images = [] { return fm::TensorBatches(fm::Rng(4).normal({24, 1, 6, 6}), 4); };
  fm::TrainOptions options = two_epochs();
  options.channels_last = true;
  options.ema_decay = 0.9;
  options.accumulate = 2;
  options.checkpoint_every = 1;
  require_same_after_resume(net, images, options, 1, 1);
  require_same_after_resume(net, images, options, 5, 5);

  // The strides come with the checkpoint, not with the option.
  const TemporaryFolder folder;
  options.checkpoints = folder.path();
  fm::Trainer(net(1), noisifier(), options).fit(images());
  options.channels_last = false;
  ConvNet again = net(2);
  fm::Trainer trainer(again, noisifier(), options);
  REQUIRE(trainer.resume());
  REQUIRE(again->first->weight.is_contiguous(at::MemoryFormat::ChannelsLast));
  REQUIRE(again->second->weight.strides() == at::IntArrayRef({36, 1, 12, 4}));
  const auto& state = *trainer.optimizer().state().at(again->second->weight.unsafeGetTensorImpl());
  REQUIRE(static_cast<const torch::optim::AdamParamState&>(state).exp_avg().strides() ==
          again->second->weight.strides());
}

TEST_CASE("trainer: everything at once resumes bit for bit from every step") {
  fm::TrainOptions options = two_epochs();
  options.ema_decay = 0.9;
  options.clip_norm = 0.5;
  options.accumulate = 2;
  options.checkpoint_every = 1;
  options.precision = fm::Precision::bfloat16;
  for (const std::int64_t step : {1, 2, 4, 5})
    require_same_after_resume(dropout_net, batches, options, step, step);
}

TEST_CASE("trainer: float16 resumes bit for bit with its loss scale") {
  fm::TrainOptions options = two_epochs();
  options.checkpoint_every = 1;
  options.precision = fm::Precision::float16;
  require_same_after_resume(plain_net, batches, options, 5, 5);
}

TEST_CASE("trainer: checkpoints come every so many steps also where that is an epoch's end") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  options.checkpoint_every = 3;
  options.keep_checkpoints = 10;
  fm::Trainer(mlp(), noisifier(), options).fit(batches());
  std::vector<std::string> names;
  for (const auto& path : fm::list_checkpoints(folder.path()))
    names.push_back(path.filename().string());
  REQUIRE(names == std::vector<std::string>{"step-000000003", "step-000000006", "step-000000009",
                                            "step-000000012"});
}

TEST_CASE("trainer: only keep_checkpoints of them stay and they hold the notes") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  options.checkpoint_every = 1;
  options.keep_checkpoints = 3;
  options.notes = {{"model", "small"}, {"remark", "two\nlines = one value"}};
  fm::Trainer(mlp(), noisifier(), options).fit(batches());
  REQUIRE(fm::list_checkpoints(folder.path()).size() == 3);
  const auto found = fm::latest_checkpoint(folder.path());
  REQUIRE(found->manifest.get_int("step") == 12);
  REQUIRE(found->manifest.get_int("epoch") == 2);
  REQUIRE(found->manifest.get("note.model") == "small");
  REQUIRE(found->manifest.get("note.remark") == "two\nlines = one value");
  REQUIRE(found->manifest.get("option.learning_rate") == "0.01");
}

TEST_CASE("trainer: a finished run resumes to nothing more to do") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  networks::Mlp net = mlp();
  fm::Trainer(net, noisifier(), options).fit(batches());
  networks::Mlp again = mlp(2);
  fm::Trainer trainer(again, noisifier(), options);
  REQUIRE(trainer.resume());
  const fm::TrainResult result = trainer.fit(batches());
  REQUIRE(result.steps == 12);
  REQUIRE(!result.stopped);
  REQUIRE(same_bits(*again, *net));
}

TEST_CASE("trainer: without a checkpoint there is nothing to resume") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  REQUIRE(!fm::Trainer(mlp(), noisifier(), options).resume());
  options.checkpoints = folder.path() / "none";
  REQUIRE(!fm::Trainer(mlp(), noisifier(), options).resume());
}

TEST_CASE("trainer: resuming with changed options names them and changes nothing") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  fm::Trainer(mlp(), noisifier(), options).fit(batches());
  options.learning_rate = 2e-2;
  options.optimizer = fm::sgd(0.9);
  options.notes = {{"may", "change"}};
  networks::Mlp net = mlp(2);
  const auto before = values(*net);
  fm::Trainer trainer(net, noisifier(), options);
  const auto resume = [&] { trainer.resume(); };
  require_error<fm::OptionError>(resume, "learning_rate: 0.01 before, 0.02 now");
  require_error<fm::OptionError>(resume, "optimizer: adam beta1 0.9");
  REQUIRE(same_bits(before, values(*net)));
  REQUIRE(trainer.steps() == 0);
}

TEST_CASE("trainer: resuming with other data is refused with both descriptions") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  train_until_killed(fm::Trainer(mlp(), noisifier(), options), batches(), 7);
  const auto refused = [&](auto source, const std::string& part) {
    fm::Trainer trainer(mlp(), noisifier(), options);
    REQUIRE(trainer.resume());
    require_error<fm::OptionError>([&] { trainer.fit(source); }, "begun with other data");
    require_error<fm::OptionError>([&] { trainer.fit(source); }, part);
  };
  refused(fm::TensorBatches(points(), 12), "batch 12");
  refused(fm::TensorBatches(points() + 1, 8), "now");
  refused(fm::TensorBatches(points(), 8, {.seed = 1}), "shuffled by seed 1");
  refused(PlainSource(), "6 batches an epoch");
}

TEST_CASE("trainer: resuming with another network is refused by the names") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  fm::Trainer(mlp(), noisifier(), options).fit(batches());
  networks::Mlp wider(2, 24);
  fm::Trainer trainer(wider, noisifier(), options);
  require_error<fm::CheckpointError>([&] { trainer.resume(); }, "shape of layers.0.weight");
}

TEST_CASE("trainer: a damaged newest checkpoint is reported and the older one resumed") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  options.checkpoint_every = 2;
  networks::Mlp through = mlp();
  fm::Trainer(through, noisifier(), options).fit(batches());
  std::filesystem::resize_file(folder.path() / "step-000000012" / "optimizer.pt", 100);

  networks::Mlp net = mlp(2);
  fm::Trainer trainer(net, noisifier(), options);
  std::vector<std::string> heard;
  REQUIRE(trainer.resume([&](const std::string& what) { heard.push_back(what); }));
  REQUIRE(heard.size() == 1);
  REQUIRE(heard[0].find("optimizer.pt is damaged") != std::string::npos);
  REQUIRE(trainer.steps() == 10);
  trainer.fit(batches());
  REQUIRE(same_bits(*net, *through));
  REQUIRE(fm::open_checkpoint(folder.path() / "step-000000012").manifest.get_int("step") == 12);

  for (const auto& path : fm::list_checkpoints(folder.path()))
    std::filesystem::remove(path / "model.pt");
  fm::Trainer last(mlp(), noisifier(), options);
  require_error<fm::CheckpointError>([&] { last.resume(); }, "model.pt");
}

TEST_CASE("trainer: a source that cannot restart resumes at an epoch's end only") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  networks::Mlp through = mlp();
  fm::Trainer(through, noisifier(), options).fit(PlainSource());
  networks::Mlp same_data = mlp();
  options.checkpoints.clear();
  fm::Trainer(same_data, noisifier(), options).fit(batches());
  REQUIRE(same_bits(*through, *same_data));

  options.checkpoints = folder.path() / "epoch";
  train_until_killed(fm::Trainer(mlp(), noisifier(), options), PlainSource(), 8);
  networks::Mlp resumed = mlp(2);
  fm::Trainer trainer(resumed, noisifier(), options);
  REQUIRE(trainer.resume());
  trainer.fit(PlainSource());
  REQUIRE(same_bits(*resumed, *through));

  fm::TrainOptions without = two_epochs();
  fm::Trainer in_middle(mlp(), noisifier(), without);
  in_middle.fit(PlainSource(), stop_after(4));
  require_error<fm::OptionError>([&] { in_middle.fit(PlainSource()); },
                                 "cannot start in mid-epoch");
}

TEST_CASE("trainer: a source that cannot restart leaves checkpoints of epochs' ends only") {
  const fm::TrainOptions four{.epochs = 4, .learning_rate = 1e-2, .seed = 5};
  networks::Mlp through = mlp();
  fm::Trainer(through, noisifier(), four).fit(PlainSource());
  const auto steps_in = [](const fs::path& folder) {
    std::vector<std::int64_t> steps;
    for (const auto& path : fm::list_checkpoints(folder))
      steps.push_back(fm::open_checkpoint(path).manifest.get_int("step"));
    return steps;
  };
  using Steps = std::vector<std::int64_t>;
  // Steps between checkpoints, and which of 6 and 12 are kept after a stop in the third epoch.
  const std::vector<std::pair<std::int64_t, Steps>> cases{
      {1, {6, 12}}, {4, {6, 12}}, {5, {6, 12}}, {0, {6, 12}}, {8, {12}}};
  for (const auto& [every, expected] : cases) {
    INFO("every " << every);
    const TemporaryFolder folder;
    fm::TrainOptions options = four;
    options.checkpoints = folder.path();
    options.checkpoint_every = every;
    fm::Trainer trainer(mlp(), noisifier(), options);
    const fm::TrainResult result = trainer.fit(PlainSource(), stop_after(15));
    CHECK(result.stopped);
    CHECK(result.steps == 15);
    CHECK(steps_in(folder.path()) == expected);
    require_error<fm::OptionError>([&] { trainer.save(); }, "a checkpoint in mid-epoch");
    CHECK(steps_in(folder.path()) == expected);
    networks::Mlp rest = mlp(2);
    fm::Trainer resumed(rest, noisifier(), options);
    REQUIRE(resumed.resume());
    CHECK(resumed.fit(PlainSource()).steps == 24);
    CHECK(same_bits(*rest, *through));
  }
}

TEST_CASE("trainer: what hooks draw does not change a run that resumes") {
  struct Drawing {
    bool draws;
    void draw() const {
      if (draws) torch::randn({3}, test_device());
    }
    void on_step(const fm::StepReport&) { draw(); }
    void before_checkpoint(const fm::EpochReport&) { draw(); }
    void on_epoch(const fm::EpochReport&) { draw(); }
  };
  const auto run = [](const fs::path& folder, bool draws, std::int64_t until, bool resume) {
    networks::Mlp net = mlp(1, true);
    fm::TrainOptions options = two_epochs();
    options.checkpoints = folder;
    fm::Trainer trainer(net, noisifier(), options);
    at::manual_seed(77);
    if (resume) REQUIRE(trainer.resume());
    trainer.fit(batches(), Drawing{draws}, stop_after(until));
    return values(*net);
  };
  const TemporaryFolder folder;
  const auto through = run(folder.path() / "through", false, 99, false);
  CHECK(same_bits(run(folder.path() / "drawing", true, 99, false), through));
  for (const std::int64_t until : {4, 6, 9}) {
    const fs::path cut = folder.path() / std::to_string(until);
    run(cut, true, until, false);
    CHECK(same_bits(run(cut, true, 99, true), through));
  }
}

TEST_CASE("trainer: layers that are registered in another order than before are refused") {
  struct PairImpl : torch::nn::Module {
    explicit PairImpl(bool swapped) {
      if (!swapped) register_module("a", a);
      register_module("b", b);
      if (swapped) register_module("a", a);
      to(test_device());
    }
    at::Tensor forward(const at::Tensor& x, const at::Tensor&) {
      return b->forward(torch::tanh(a->forward(x)));
    }
    torch::nn::Linear a{2, 2}, b{2, 2};
  };
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.checkpoints = folder.path();
  {
    PairImpl net(false);
    fm::Trainer(net, noisifier(), options).fit(batches(), stop_after(3));
  }
  PairImpl swapped(true);
  const auto before = values(swapped);
  fm::Trainer trainer(swapped, noisifier(), options);
  require_error<fm::CheckpointError>(
      [&] { trainer.resume(); }, "another order than in the checkpoint: b.weight where a.weight");
  CHECK(same_bits(values(swapped), before));
  PairImpl same(false);
  CHECK(fm::Trainer(same, noisifier(), options).resume());
}

// In a copy of this process, which a device does not survive.
TEST_CASE("trainer: killed at any system call of a run, it goes on bit for bit", "[cpu]") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.ema_decay = 0.9;
  options.keep_checkpoints = 1;  // the second one is written, then the first removed
  const auto train = [&](networks::Mlp net) {
    fm::Trainer trainer(net, noisifier(), options);
    at::manual_seed(77);
    trainer.resume();
    trainer.fit(fm::TensorBatches(points(16), 8));
    return std::pair(values(*net), trainer.ema()->state());
  };
  options.checkpoints = folder.path() / "through";
  const auto through = train(mlp(1, true));

  int calls = 0, resumed = 0;
  for (Kill kill = Kill::killed; kill == Kill::killed; ++calls) {
    options.checkpoints = folder.path() / std::to_string(calls);
    kill = kill_at_system_call(calls, [&] { train(mlp(1, true)); });
    if (kill == Kill::impossible) {
      WARN("SKIPPED: processes can't be traced here");
      return;
    }
    INFO("call " << calls);
    REQUIRE(kill != Kill::failed);
    const bool begun = fm::latest_checkpoint(options.checkpoints).has_value();
    if (begun) ++resumed;
    // From a checkpoint the weights at hand do not matter.
    const auto [weights, averages] = train(mlp(begun ? 2 : 1, true));
    REQUIRE(same_bits(weights, through.first));
    REQUIRE(same_bits(averages, through.second));
    fs::remove_all(options.checkpoints);
  }
  CHECK(resumed > 50);
  CHECK(calls > resumed + 50);
}

TEST_CASE("trainer: learning rates that the caller has set resume bit for bit") {
  fm::TrainOptions options = two_epochs();
  options.optimizer = fm::with_groups(fm::adam(), {{.prefix = "layers.0", .rate_factor = 0.25}});
  options.checkpoint_every = 4;
  const auto set = [](auto& trainer) {
    return [&trainer](const fm::StepReport& r) {
      if (r.step == 2) trainer.optimizer().param_groups()[1].options().set_lr(1.0 / 3000);
    };
  };
  const TemporaryFolder whole_folder, killed_folder, stopped_folder;
  options.checkpoints = whole_folder.path();
  networks::Mlp whole = mlp();
  fm::Trainer straight(whole, noisifier(), options);
  straight.fit(batches(), set(straight));
  for (const bool killed : {true, false}) {
    options.checkpoints = killed ? killed_folder.path() : stopped_folder.path();
    fm::Trainer first(mlp(), noisifier(), options);
    if (killed) {
      train_until_killed(first, batches(), 5, set(first));
    } else {  // before the schedule has met the new rate
      first.fit(batches(), set(first), stop_after(2));
    }
    networks::Mlp again = mlp(2);
    fm::Trainer second(again, noisifier(), options);
    REQUIRE(second.resume());
    REQUIRE(second.steps() == (killed ? 4 : 2));
    second.fit(batches());
    REQUIRE(same_bits(*whole, *again));
  }
}

TEST_CASE("trainer: a resume that is refused changes neither weights nor averages nor optimizer") {
  const TemporaryFolder folder;
  fm::TrainOptions options = two_epochs();
  options.ema_decay = 0.9;
  options.checkpoints = folder.path();
  fm::Trainer(mlp(), noisifier(), options).fit(batches());
  // Groups that the optimizer's description does not tell apart.
  const auto plain = options.optimizer;
  options.optimizer.make = [plain](std::vector<at::Tensor> parameters, double learning_rate) {
    const at::Tensor last = parameters.back();
    parameters.pop_back();
    auto optimizer = plain.make(std::move(parameters), learning_rate);
    optimizer->add_param_group(torch::optim::OptimizerParamGroup({last}));
    return optimizer;
  };
  networks::Mlp net = mlp(2);
  fm::Trainer trainer(net, noisifier(), options);
  const auto before = values(*net);
  const fm::StateDict averages = trainer.ema()->state();
  trainer.optimizer().param_groups()[0].options().set_lr(0.5);
  require_error<fm::CheckpointError>([&] { trainer.resume(); }, "is of another optimizer");
  REQUIRE(same_bits(values(*net), before));
  REQUIRE(same_bits(trainer.ema()->state(), averages));
  REQUIRE(trainer.ema()->updates() == 0);
  REQUIRE(trainer.optimizer().param_groups()[0].options().get_lr() == 0.5);
  REQUIRE(trainer.steps() == 0);
}
