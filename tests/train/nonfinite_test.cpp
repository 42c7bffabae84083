#include "flowmatch/train/nonfinite.hpp"

#include <string>

#include "tests/support/test.hpp"

using Watch = fm::NonfiniteWatch;
using Verdict = Watch::Verdict;

namespace {

at::Tensor flag(bool value) { return on_device::tensor(value); }

}  // namespace

TEST_CASE("nonfinite: stop names the step and what was not finite") {
  Watch watch(fm::OnNonfinite::stop);
  REQUIRE(watch.judge(0, true, true) == Verdict::good);
  require_error<fm::TrainingError>([&] { watch.judge(7, false, false); },
                                   "the loss became NaN or infinite at step 7;");
  require_error<fm::TrainingError>([&] { watch.judge(8, true, false); },
                                   "the gradient became NaN or infinite at step 8;");
  try {
    watch.judge(9, false, true);
    FAIL("nothing was thrown");
  } catch (const fm::TrainingError& error) {
    REQUIRE(error.step() == 9);
  }
  REQUIRE(watch.gave_up());
  REQUIRE(watch.judge(10, true, true) == Verdict::good);
  REQUIRE_FALSE(watch.gave_up());
}

TEST_CASE("nonfinite: skip counts and gives up after many in a row") {
  Watch watch(fm::OnNonfinite::skip);
  for (int round = 0; round < 3; ++round) {  // a good step ends the row
    for (std::int64_t i = 0; i < fm::most_skips - 1; ++i)
      REQUIRE(watch.judge(i, false, false) == Verdict::skip);
    REQUIRE(watch.judge(99, true, true) == Verdict::good);
  }
  REQUIRE(watch.skipped() == 3 * (fm::most_skips - 1));
  for (std::int64_t i = 0; i < fm::most_skips - 1; ++i) watch.judge(i, true, false);
  require_error<fm::TrainingError>([&] { watch.judge(500, true, false); },
                                   "at step 500, the last of 50 steps in a row");
}

TEST_CASE("nonfinite: rolling back gives up where it leads nowhere") {
  Watch watch(fm::OnNonfinite::roll_back);
  for (int round = 0; round < 2; ++round) {
    for (std::int64_t i = 0; i < fm::most_rollbacks; ++i)
      REQUIRE(watch.judge(4, false, false) == Verdict::roll_back);
    if (round == 0) watch.progressed();
  }
  require_error<fm::TrainingError>([&] { watch.judge(4, false, false); },
                                   "at step 4, also after going back 3 times");
}

TEST_CASE("nonfinite: an overflow that the loss scaler can cure is no fault") {
  Watch watch(fm::OnNonfinite::stop);
  for (int i = 0; i < 100; ++i)
    REQUIRE(watch.judge(i, true, false, /*curable=*/true) == Verdict::skip);
  REQUIRE(watch.skipped() == 100);
  require_error<fm::TrainingError>([&] { watch.judge(100, false, false, true); }, "the loss");
}

TEST_CASE("nonfinite: what a device remembers is judged at the next look") {
  Watch stop(fm::OnNonfinite::stop);
  REQUIRE(stop.read_flag() == Verdict::good);  // nothing noted
  for (std::int64_t step = 0; step < 5; ++step) stop.note(step, flag(false), flag(false));
  REQUIRE(stop.read_flag() == Verdict::good);
  for (std::int64_t step = 5; step < 10; ++step) stop.note(step, flag(step >= 7), flag(step >= 7));
  require_error<fm::TrainingError>([&] { stop.read_flag(); }, "loss or gradient became");
  REQUIRE(stop.read_flag() == Verdict::good);  // it has been told

  Watch first(fm::OnNonfinite::stop);
  for (std::int64_t step = 0; step < 9; ++step)
    first.note(step, flag(step % 4 == 0), flag(step % 4 == 0));
  require_error<fm::TrainingError>([&] { first.read_flag(); }, "at step 0;");

  Watch back(fm::OnNonfinite::roll_back);
  back.note(3, flag(true), flag(true));
  REQUIRE(back.read_flag() == Verdict::roll_back);

  Watch skip(fm::OnNonfinite::skip);
  for (std::int64_t step = 0; step < 4; ++step) skip.note(step, flag(step > 1), flag(step > 1));
  REQUIRE(skip.read_flag() == Verdict::skip);
  REQUIRE(skip.skipped() == 2);
  for (std::int64_t step = 0; step < 50; ++step) skip.note(step, flag(true), flag(true));
  require_error<fm::TrainingError>([&] { skip.read_flag(); }, "steps in a row");

  Watch scaler(fm::OnNonfinite::stop);
  scaler.note(0, flag(true), flag(false));  // masked, and cured by a smaller scale
  REQUIRE(scaler.read_flag() == Verdict::good);
  REQUIRE(scaler.skipped() == 1);
}

TEST_CASE("nonfinite: what a device remembers counts in a row as it came") {
  Watch scattered(fm::OnNonfinite::skip);
  for (std::int64_t step = 0; step < 200; ++step)
    scattered.note(step, flag(step % 3 == 0), flag(step % 3 == 0));
  REQUIRE(scattered.read_flag() == Verdict::skip);
  REQUIRE(scattered.skipped() == 67);

  for (const std::int64_t row : {fm::most_skips - 1, fm::most_skips}) {  // across two looks
    Watch watch(fm::OnNonfinite::skip);
    const auto look_after = [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t step = from; step < to; ++step) {
        const bool bad = step >= 70 && step < 70 + row;
        const bool for_the_scaler = step == 90;  // neither ends a row nor adds to it
        watch.note(step, flag(bad || for_the_scaler), flag(bad && !for_the_scaler));
      }
      return watch.read_flag();
    };
    REQUIRE(look_after(0, 100) == Verdict::skip);
    REQUIRE_FALSE(watch.gave_up());
    REQUIRE_FALSE(watch.noted());
    watch.note(100, flag(true), flag(true));
    REQUIRE(watch.noted());
    REQUIRE(look_after(101, 200) == Verdict::skip);  // 49, or 48, without the scaler's
    REQUIRE(watch.skipped() == row);
  }
  Watch many(fm::OnNonfinite::skip);
  for (std::int64_t step = 0; step < 100; ++step)
    many.note(step, flag(step >= 70), flag(step >= 70));
  REQUIRE(many.read_flag() == Verdict::skip);
  for (std::int64_t step = 100; step < 130; ++step)
    many.note(step, flag(step < 125), flag(step < 125));
  try {
    many.read_flag();
    FAIL("nothing was thrown");
  } catch (const fm::TrainingError& error) {
    REQUIRE(error.step() == 119);  // as on the CPU
    REQUIRE(std::string(error.what()).find("at step 119, the last of 50 steps in a row") !=
            std::string::npos);
  }
  REQUIRE(many.gave_up());
  REQUIRE(many.skipped() == 55);
  many.note(130, flag(false), flag(false));
  REQUIRE_FALSE(many.gave_up());
}
