#include "flowmatch/optim/learning_rate.hpp"

#include <cmath>
#include <vector>

#include "flowmatch/optim/optimizer.hpp"
#include "tests/support/test.hpp"

namespace {

struct Point {
  std::int64_t step;
  double factor, momentum;
};

struct Cycle {
  std::int64_t total_steps;
  bool linear, three_phase;
  std::vector<Point> points;
};

// From torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=...) of PyTorch 2.13
// in float64, with Adam (beta1) and with SGD (momentum), which give the same numbers.
const std::vector<Cycle>& cycles_of_pytorch() {
  // clang-format off
  static const std::vector<Cycle> cycles{
      {10, false, false, {
        {0, 0.040000000000000036, 0.95}, {1, 0.52, 0.8999999999999999},
        {2, 1.0, 0.85}, {3, 0.9504846320134737, 0.854951556604879},
        {4, 0.8117456539497631, 0.8688255099070633}, {5, 0.6112620219362893, 0.8888739533021842},
        {6, 0.38874197806371075, 0.9111260466978157}, {7, 0.18825834605023697, 0.9311744900929366},
        {8, 0.049519367986526286, 0.945048443395121}, {9, 4e-06, 0.95}}},
      {37, false, false, {
        {0, 0.040000000000000036, 0.95}, {1, 0.06303370838428968, 0.9476006553766364},
        {5, 0.5125351302782315, 0.9007775905960175}, {10, 0.9997678155001543, 0.8500241858854005},
        {11, 0.9970235941053401, 0.8502976417800331}, {17, 0.8348663251231065, 0.8665134335414235},
        {20, 0.680788430942399, 0.8819212845908985}, {21, 0.6230536614789347, 0.8876947846312451},
        {22, 0.5635106558377999, 0.893649109012656}, {30, 0.12667767803223492, 0.9373325815271025},
        {35, 0.0036777190765913802, 0.9496326266228473}, {36, 4e-06, 0.95}}},
      {590, false, false, {
        {0, 0.040000000000000036, 0.95}, {1, 0.04007646701199841, 0.9499920346862502},
        {88, 0.52, 0.8999999999999999}, {175, 0.9999235329880016, 0.8500079653137498},
        {176, 1.0, 0.85}, {177, 0.9999855344210661, 0.8500014465636796},
        {200, 0.9916909026829714, 0.8508309130553551}, {351, 0.6186648752821577, 0.8881336650064442},
        {352, 0.6149667746865736, 0.8885034765452487}, {353, 0.6112620219362893, 0.8888739533021842},
        {354, 0.6075508313977359, 0.8892450738405218}, {450, 0.2544075313980688, 0.9245595450983735},
        {588, 1.8465578933865254e-05, 0.9499985534363203}, {589, 4e-06, 0.95}}},
      {10, false, true, {
        {0, 0.040000000000000036, 0.95}, {1, 0.52, 0.8999999999999999},
        {2, 1.0, 0.85}, {3, 0.52, 0.8999999999999999},
        {4, 0.04, 0.95}, {5, 0.0361807218535102, 0.95},
        {6, 0.0261817218535102, 0.95}, {7, 0.013822278146489805, 0.95},
        {8, 0.0038232781464898036, 0.95}, {9, 4e-06, 0.95}}},
      {37, false, true, {
        {0, 0.040000000000000036, 0.95}, {1, 0.06303370838428968, 0.9476006553766364},
        {5, 0.5125351302782315, 0.9007775905960175}, {10, 0.9997678155001543, 0.8500241858854005},
        {11, 0.9813140513913878, 0.8519464529800638}, {17, 0.2587819922771068, 0.9272102091378014},
        {20, 0.04092851337587472, 0.9499032798566797}, {21, 0.0397475320880428, 0.95},
        {22, 0.03873279669837802, 0.95}, {30, 0.012625459237368896, 0.95},
        {35, 0.00039801325864088764, 0.95}, {36, 4e-06, 0.95}}},
      {590, false, true, {
        {0, 0.040000000000000036, 0.95}, {1, 0.04007646701199841, 0.9499920346862502},
        {88, 0.52, 0.8999999999999999}, {175, 0.9999235329880016, 0.8500079653137498},
        {176, 1.0, 0.85}, {177, 0.9999235329880016, 0.8500079653137498},
        {200, 0.9566233577701688, 0.8545184002322741}, {351, 0.04007646701199843, 0.9499920346862502},
        {352, 0.04, 0.95}, {353, 0.03999824307483878, 0.95},
        {354, 0.03999297260806458, 0.95}, {450, 0.025369644950146437, 0.95},
        {588, 5.756925161224181e-06, 0.95}, {589, 4e-06, 0.95}}},
      {10, true, false, {
        {0, 0.04, 0.95}, {1, 0.52, 0.8999999999999999},
        {2, 1.0, 0.85}, {3, 0.8571434285714286, 0.8642857142857142},
        {4, 0.7142868571428571, 0.8785714285714286}, {5, 0.5714302857142857, 0.8928571428571428},
        {6, 0.42857371428571434, 0.9071428571428571}, {7, 0.2857171428571429, 0.9214285714285714},
        {8, 0.14286057142857145, 0.9357142857142857}, {9, 4.000000000004e-06, 0.95}}},
      {37, true, false, {
        {0, 0.04, 0.95}, {1, 0.13504950495049506, 0.94009900990099},
        {5, 0.5152475247524753, 0.9004950495049504}, {10, 0.9904950495049505, 0.850990099009901},
        {11, 0.9652511042471043, 0.8534749034749034}, {17, 0.7335917992277992, 0.8766409266409266},
        {20, 0.6177621467181467, 0.8882239382239382}, {21, 0.5791522625482626, 0.892084942084942},
        {22, 0.5405423783783784, 0.8959459459459459}, {30, 0.231663305019305, 0.9268339768339768},
        {35, 0.038613884169884205, 0.9461389961389961}, {36, 4.000000000004e-06, 0.95}}},
      {590, true, false, {
        {0, 0.04, 0.95}, {1, 0.045454545454545456, 0.9494318181818181},
        {88, 0.52, 0.8999999999999999}, {175, 0.9945454545454545, 0.8505681818181818},
        {176, 1.0, 0.85}, {177, 0.9975787021791768, 0.8502421307506053},
        {200, 0.9418888523002421, 0.8558111380145278}, {351, 0.5762728813559322, 0.8923728813559322},
        {352, 0.573851583535109, 0.8926150121065375}, {353, 0.5714302857142857, 0.8928571428571428},
        {354, 0.5690089878934625, 0.8930992736077481}, {450, 0.336564397094431, 0.9163438256658596},
        {588, 0.0024252978208232356, 0.9497578692493946}, {589, 4.000000000004e-06, 0.95}}},
      {10, true, true, {
        {0, 0.04, 0.95}, {1, 0.52, 0.8999999999999999},
        {2, 1.0, 0.85}, {3, 0.52, 0.8999999999999999},
        {4, 0.040000000000000036, 0.95}, {5, 0.032000799999999996, 0.95},
        {6, 0.024001599999999998, 0.95}, {7, 0.0160024, 0.95},
        {8, 0.008003199999999995, 0.95}, {9, 3.9999999999970615e-06, 0.95}}},
      {37, true, true, {
        {0, 0.04, 0.95}, {1, 0.13504950495049506, 0.94009900990099},
        {5, 0.5152475247524753, 0.9004950495049504}, {10, 0.9904950495049505, 0.850990099009901},
        {11, 0.9144554455445544, 0.8589108910891089}, {17, 0.34415841584158413, 0.9183168316831682},
        {20, 0.05900990099009895, 0.948019801980198}, {21, 0.037974886075949364, 0.95},
        {22, 0.035443493670886075, 0.95}, {30, 0.015192354430379747, 0.95},
        {35, 0.002535392405063286, 0.95}, {36, 3.9999999999970615e-06, 0.95}}},
      {590, true, true, {
        {0, 0.04, 0.95}, {1, 0.045454545454545456, 0.9494318181818181},
        {88, 0.52, 0.8999999999999999}, {175, 0.9945454545454545, 0.8505681818181818},
        {176, 1.0, 0.85}, {177, 0.9945454545454545, 0.8505681818181818},
        {200, 0.8690909090909091, 0.8636363636363636}, {351, 0.045454545454545525, 0.9494318181818181},
        {352, 0.040000000000000036, 0.95}, {353, 0.039831240506329114, 0.95},
        {354, 0.03966248101265823, 0.95}, {450, 0.023461569620253163, 0.95},
        {588, 0.00017275949367088345, 0.95}, {589, 3.9999999999970615e-06, 0.95}}},
  };
  // clang-format on
  return cycles;
}

bool agrees(double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(b) + 1e-15; }

std::vector<at::Tensor> one_parameter() { return {on_device::zeros({1}).requires_grad_()}; }

}  // namespace

TEST_CASE("schedule: one_cycle gives PyTorch's learning rates and momenta") {
  for (const Cycle& cycle : cycles_of_pytorch()) {
    const fm::LearningRateSchedule schedule =
        fm::one_cycle({.three_phase = cycle.three_phase, .linear = cycle.linear});
    for (const Point& point : cycle.points) {
      const fm::Rates rates = schedule.at(point.step, cycle.total_steps);
      INFO(cycle.total_steps << " steps, " << (cycle.linear ? "linear" : "cosine")
                             << (cycle.three_phase ? " in three phases" : "") << ", step "
                             << point.step << ": " << rates.factor);
      REQUIRE(agrees(rates.factor, point.factor));
      REQUIRE(rates.momentum.has_value());
      REQUIRE(agrees(*rates.momentum, point.momentum));
    }
  }
}

TEST_CASE("schedule: one_cycle without cycling momentum gives the same rates and leaves momentum") {
  for (const Cycle& cycle : cycles_of_pytorch()) {
    const fm::LearningRateSchedule schedule = fm::one_cycle(
        {.cycle_momentum = false, .three_phase = cycle.three_phase, .linear = cycle.linear});
    for (const Point& point : cycle.points) {
      const fm::Rates rates = schedule.at(point.step, cycle.total_steps);
      REQUIRE(agrees(rates.factor, point.factor));
      REQUIRE(!rates.momentum.has_value());
    }
  }
}

TEST_CASE("schedule: one_cycle takes PyTorch's other settings") {
  // pct_start=0.25, div_factor=10, final_div_factor=100, base_momentum=0.8, max_momentum=0.9 over
  // 20 steps.
  const std::vector<Point> expected{{0, 0.09999999999999998, 0.9},
                                    {2, 0.55, 0.8500000000000001},
                                    {4, 1.0, 0.8},
                                    {5, 0.9890847265665359, 0.8010926199633097},
                                    {12, 0.4482880325978072, 0.8552264231633827},
                                    {19, 0.001, 0.9}};
  const fm::LearningRateSchedule schedule = fm::one_cycle({.pct_start = 0.25,
                                                           .div_factor = 10,
                                                           .final_div_factor = 100,
                                                           .base_momentum = 0.8,
                                                           .max_momentum = 0.9});
  for (const Point& point : expected) {
    INFO("step " << point.step);
    REQUIRE(agrees(schedule.at(point.step, 20).factor, point.factor));
    REQUIRE(agrees(*schedule.at(point.step, 20).momentum, point.momentum));
  }
}

TEST_CASE("schedule: one_cycle of one to three steps and beyond the end stays as PyTorch's") {
  const fm::LearningRateSchedule two_phases = fm::one_cycle();
  REQUIRE(agrees(two_phases.at(0, 1).factor, 4e-06));
  REQUIRE(agrees(two_phases.at(0, 2).factor, 0.811745653949763));
  REQUIRE(agrees(*two_phases.at(0, 2).momentum, 0.8688255099070633));
  REQUIRE(agrees(two_phases.at(1, 3).factor, 0.46263710266697505));
  REQUIRE(agrees(fm::one_cycle({.three_phase = true}).at(1, 3).factor, 0.017155987864210843));
  // A step more than there are does not send the rate up again.
  REQUIRE(two_phases.at(12, 10).factor == two_phases.at(9, 10).factor);
  // pct_start * total_steps == 1 divides 0 by 0 in PyTorch; here it starts at the maximum.
  REQUIRE(fm::one_cycle({.pct_start = 0.1}).at(0, 10).factor == 1.0);
  // The maximum comes at the same step however the product of share and steps is rounded.
  for (std::int64_t tenths = 1; tenths < 10; ++tenths) {
    for (const std::int64_t steps : {10, 30, 70, 1000}) {
      const double share = static_cast<double>(tenths) / 10;
      for (const double pct_start : {share, std::nextafter(share, 0), std::nextafter(share, 1)}) {
        const fm::LearningRateSchedule schedule = fm::one_cycle({.pct_start = pct_start});
        REQUIRE(schedule.at(tenths * steps / 10 - 1, steps).factor == 1.0);
      }
    }
  }
}

TEST_CASE("schedule: one_cycle sets Adam's beta1 and SGD's momentum through set_rates") {
  const fm::LearningRateSchedule schedule = fm::one_cycle();
  torch::optim::Adam adam(one_parameter(), torch::optim::AdamOptions(1.0));
  torch::optim::SGD sgd(one_parameter(), torch::optim::SGDOptions(1.0).momentum(0.5));
  for (const Point& point : cycles_of_pytorch().front().points) {
    const fm::Rates rates = schedule.at(point.step, 10);
    fm::set_rates(adam, 1e-2 * rates.factor, rates.momentum);
    fm::set_rates(sgd, 1e-2 * rates.factor, rates.momentum);
    const auto& adam_options = static_cast<torch::optim::AdamOptions&>(adam.defaults());
    const auto& adam_group =
        static_cast<torch::optim::AdamOptions&>(adam.param_groups().front().options());
    const auto& sgd_group =
        static_cast<torch::optim::SGDOptions&>(sgd.param_groups().front().options());
    REQUIRE(agrees(adam_group.lr(), 1e-2 * point.factor));
    REQUIRE(agrees(std::get<0>(adam_group.betas()), point.momentum));
    REQUIRE(std::get<1>(adam_group.betas()) == std::get<1>(adam_options.betas()));
    REQUIRE(agrees(sgd_group.lr(), 1e-2 * point.factor));
    REQUIRE(agrees(sgd_group.momentum(), point.momentum));
  }
}

TEST_CASE("schedule: constant leaves rate and momentum alone") {
  const fm::Rates rates = fm::constant().at(17, 100);
  REQUIRE(rates.factor == 1.0);
  REQUIRE(!rates.momentum.has_value());
}

TEST_CASE("schedule: cosine warms up linearly and falls along half a cosine to the final factor") {
  const fm::LearningRateSchedule plain = fm::cosine_annealing();
  REQUIRE(plain.at(0, 11).factor == 1.0);
  REQUIRE(plain.at(5, 11).factor == Approx(0.5).epsilon(1e-14));
  REQUIRE(plain.at(2, 11).factor ==
          Approx((1 + std::cos(0.2 * 3.14159265358979323846)) / 2).epsilon(1e-14));
  REQUIRE(std::abs(plain.at(10, 11).factor) < 1e-15);
  REQUIRE(std::abs(plain.at(50, 11).factor) < 1e-15);

  const fm::LearningRateSchedule warm = fm::cosine_annealing(4, 0.1);
  REQUIRE(warm.at(0, 15).factor == 0.25);
  REQUIRE(warm.at(3, 15).factor == 1.0);
  REQUIRE(warm.at(4, 15).factor == 1.0);
  REQUIRE(warm.at(9, 15).factor == Approx(0.55).epsilon(1e-14));
  REQUIRE(warm.at(14, 15).factor == Approx(0.1).epsilon(1e-14));
  REQUIRE(fm::cosine_annealing().at(0, 1).factor == 1.0);  // a run of one step
  REQUIRE(std::isfinite(warm.at(4, 3).factor));            // a warm-up longer than the run
}

TEST_CASE("schedule: warmup_constant rises linearly to 1 and stays") {
  const fm::LearningRateSchedule schedule = fm::warmup_constant(4);
  REQUIRE(schedule.at(0, 100).factor == 0.25);
  REQUIRE(schedule.at(2, 100).factor == 0.75);
  REQUIRE(schedule.at(3, 100).factor == 1.0);
  REQUIRE(schedule.at(99, 100).factor == 1.0);
  REQUIRE(fm::warmup_constant(0).at(0, 100).factor == 1.0);
}

TEST_CASE("schedule: settings out of range are refused with what was given") {
  const auto refused = [](fm::OneCycleSettings settings, const std::string& part) {
    require_error<fm::OptionError>([&] { fm::one_cycle(settings); }, part);
  };
  refused({.pct_start = 0}, "pct_start 0,");
  refused({.pct_start = 1}, "pct_start 1,");
  refused({.pct_start = nan_value}, "pct_start nan,");
  refused({.div_factor = 0}, "div_factor 0,");
  refused({.div_factor = -25}, "div_factor -25,");
  refused({.div_factor = infinity}, "div_factor inf,");
  refused({.final_div_factor = nan_value}, "final_div_factor nan,");
  refused({.final_div_factor = 0}, "final_div_factor 0,");
  refused({.base_momentum = 1}, "momenta 1 and 0.95");
  refused({.base_momentum = -0.1}, "momenta -0.1 and 0.95");
  refused({.max_momentum = nan_value}, "momenta 0.85 and nan");
  require_error<fm::OptionError>([] { fm::cosine_annealing(-1); }, "-1 warm-up steps");
  require_error<fm::OptionError>([] { fm::cosine_annealing(0, 1.5); }, "down to 1.5");
  require_error<fm::OptionError>([] { fm::cosine_annealing(0, nan_value); }, "down to nan");
  require_error<fm::OptionError>([] { fm::warmup_constant(-3); }, "-3 steps");
}

TEST_CASE("schedule: descriptions tell schedules apart") {
  REQUIRE(fm::constant().description == "constant");
  REQUIRE(fm::cosine_annealing(100, 0.01).description == "cosine warmup 100 final 0.01");
  REQUIRE(fm::warmup_constant(10).description == "warmup 10");
  REQUIRE(fm::one_cycle().description ==
          "one-cycle pct_start 0.3 div 25 final_div 10000 momentum 0.85 to 0.95");
  REQUIRE(
      fm::one_cycle({.cycle_momentum = false, .three_phase = true, .linear = true}).description ==
      "one-cycle pct_start 0.3 div 25 final_div 10000 momentum fixed three-phase linear");
  // Numbers that six decimals would not tell apart.
  REQUIRE(fm::cosine_annealing(0, 1e-8).description != fm::cosine_annealing(0, 2e-8).description);
}

TEST_CASE("schedule: one_cycle may also begin above its maximum, as PyTorch's") {
  const fm::LearningRateSchedule schedule =
      fm::one_cycle({.div_factor = 0.5, .final_div_factor = 1});
  REQUIRE(agrees(schedule.at(0, 20).factor, 2));
  REQUIRE(agrees(schedule.at(19, 20).factor, 2));
}
