#include "flowmatch/train/options.hpp"

#include <functional>
#include <limits>
#include <string>

#include "tests/support/test.hpp"

namespace {

void refused(const std::function<void(fm::TrainOptions&)>& change, const std::string& part) {
  fm::TrainOptions options;
  change(options);
  require_error<fm::OptionError>([&] { options.validate(); }, part);
}

}  // namespace

TEST_CASE("options: the defaults and the limits of each range are valid") {
  fm::TrainOptions options;
  REQUIRE_NOTHROW(options.validate());
  options.epochs = options.accumulate = options.log_every = options.keep_checkpoints = 1;
  options.checkpoint_every = 0;
  options.learning_rate = std::numeric_limits<double>::denorm_min();
  options.clip_norm = 0;
  options.ema_decay = 0;
  REQUIRE_NOTHROW(options.validate());
  options.clip_norm = std::numeric_limits<double>::max();
  options.ema_decay = std::nextafter(1.0, 0.0);
  options.notes = {{"recipe.model", "a = b\nand more"}};
  REQUIRE_NOTHROW(options.validate());
}

TEST_CASE("options: counts out of range are refused by name") {
  refused([](auto& o) { o.epochs = 0; }, "epochs is 0; choose at least 1");
  refused([](auto& o) { o.epochs = -3; }, "epochs is -3");
  refused([](auto& o) { o.accumulate = 0; }, "accumulate is 0; choose at least 1");
  refused([](auto& o) { o.log_every = 0; }, "log_every is 0; choose at least 1");
  refused([](auto& o) { o.checkpoint_every = -1; }, "checkpoint_every is -1; choose at least 0");
  refused([](auto& o) { o.keep_checkpoints = 0; }, "keep_checkpoints is 0; choose at least 1");
}

TEST_CASE("options: numbers out of range or not finite are refused by name") {
  refused([](auto& o) { o.learning_rate = 0; }, "learning_rate is 0;");
  refused([](auto& o) { o.learning_rate = -1e-3; }, "learning_rate is -0.001;");
  refused([](auto& o) { o.learning_rate = nan_value; }, "learning_rate is nan;");
  refused([](auto& o) { o.learning_rate = infinity; }, "learning_rate is inf;");
  refused([](auto& o) { o.clip_norm = -1; }, "clip_norm is -1;");
  refused([](auto& o) { o.clip_norm = nan_value; }, "clip_norm is nan;");
  refused([](auto& o) { o.clip_norm = infinity; }, "clip_norm is inf;");
  refused([](auto& o) { o.ema_decay = 1; }, "ema_decay is 1;");
  refused([](auto& o) { o.ema_decay = -0.1; }, "ema_decay is -0.1;");
  refused([](auto& o) { o.ema_decay = nan_value; }, "ema_decay is nan;");
}

TEST_CASE("options: an empty schedule and notes that no checkpoint can keep are refused") {
  refused([](auto& o) { o.schedule = {}; }, "the schedule is empty");
  refused([](auto& o) { o.notes = {{"a=b", "1"}}; }, "the note 'a=b'");
  refused([](auto& o) { o.notes = {{"a\nb", "1"}}; }, "line break");
}

TEST_CASE("options: fixed lists what a resumed run must keep with every digit") {
  const auto differs = [](const char* name, const std::function<void(fm::TrainOptions&)>& change) {
    fm::TrainOptions options;
    const auto before = options.fixed();
    change(options);
    const auto now = options.fixed();
    INFO(name << ": " << before.at(name) << " and " << now.at(name));
    REQUIRE(now.at(name) != before.at(name));
    int changes = 0;
    for (const auto& entry : now) changes += before.at(entry.first) != entry.second ? 1 : 0;
    REQUIRE(changes == 1);
  };
  differs("epochs", [](auto& o) { o.epochs = 2; });
  differs("learning_rate", [](auto& o) { o.learning_rate = 1e-3 + 1e-15; });
  differs("optimizer", [](auto& o) { o.optimizer = fm::adam({.eps = 1.1e-8}); });
  differs("schedule", [](auto& o) { o.schedule = fm::warmup_constant(3); });
  differs("accumulate", [](auto& o) { o.accumulate = 2; });
  differs("clip_norm", [](auto& o) { o.clip_norm = 1e-9; });
  differs("ema_decay", [](auto& o) { o.ema_decay = 1e-9; });
  differs("ema_warmup", [](auto& o) { o.ema_warmup = false; });
  differs("precision", [](auto& o) { o.precision = fm::Precision::bfloat16; });
  differs("seed", [](auto& o) { o.seed = 1; });
  REQUIRE(fm::TrainOptions{.learning_rate = 1e-2}.fixed().at("learning_rate") == "0.01");
}

TEST_CASE("options: fixed leaves out what may change between two halves of a run") {
  fm::TrainOptions options;
  const auto before = options.fixed();
  options.checkpoints = "elsewhere";
  options.checkpoint_every = 7;
  options.keep_checkpoints = 9;
  options.log_every = 3;
  options.notes = {{"who", "me"}};
  REQUIRE(options.fixed() == before);
}

TEST_CASE("options: require_same names each option that changed with both values") {
  fm::TrainOptions options;
  fm::Manifest before;
  options.describe(before);
  REQUIRE_NOTHROW(options.require_same(before));
  options.learning_rate = 0.5;
  options.seed = 7;
  const auto check = [&] { options.require_same(before); };
  require_error<fm::OptionError>(check, "learning_rate: 0.001 before, 0.5 now");
  require_error<fm::OptionError>(check, "seed: 0 before, 7 now");
  require_error<fm::OptionError>(check, "give them again, or start a new run");
}

TEST_CASE("options: a checkpoint from before there were precisions is of float32") {
  fm::TrainOptions options;
  fm::Manifest before;
  for (const auto& [name, value] : options.fixed())
    if (name != "precision") before.set("option." + name, value);
  REQUIRE_NOTHROW(options.require_same(before));
  options.precision = fm::Precision::bfloat16;
  require_error<fm::OptionError>([&] { options.require_same(before); },
                                 "precision: float32 before, bfloat16 now");
}

TEST_CASE("options: rolling back needs checkpoints") {
  refused([](auto& o) { o.on_nonfinite = fm::OnNonfinite::roll_back; },
          "name a folder in `checkpoints`, or choose skip");
  fm::TrainOptions options;
  options.on_nonfinite = fm::OnNonfinite::roll_back;
  options.checkpoints = "run";
  REQUIRE_NOTHROW(options.validate());
}
