#include "flowmatch/noisify/noisifier.hpp"

#include "flowmatch/noisify/condition_dropout.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/path/bridge.hpp"
#include "tests/support/test.hpp"

namespace {

/// A Brownian bridge: the straight path with noise of its own between the ends.
struct Bridge {
  double scale = 0.5;
  fm::PathSample sample(const at::Tensor& x_0, const at::Tensor& x_1, const at::Tensor& t,
                        fm::Rng& rng) const {
    fm::PathSample sample = fm::LinearPath{}.sample(x_0, x_1, t);
    const at::Tensor width = (scale * (t * (1 - t)).sqrt()).unsqueeze(1);
    sample.x_t = sample.x_t + width * rng.normal(x_0.sizes(), x_0.options());
    return sample;
  }
};

/// On the straight path, x_t = x_1 - (1 - t)(x_1 - x_0).
template <class C>
void check_straight(const fm::Noised<C>& noised, const at::Tensor& x_1, double tolerance) {
  const at::Tensor left = 1 - fm::expand_time(noised.t, x_1).to(x_1.scalar_type());
  CHECK(noised.target.sizes() == x_1.sizes());
  CHECK(close(noised.x_t, x_1 - left * noised.target, tolerance, tolerance));
}

}  // namespace

TEST_CASE("noisifier: images and points and numbers all lie on the straight path") {
  const fm::VelocityNoisifier noisify(fm::LinearPath{});
  fm::Rng rng(8, test_device());
  const std::vector<std::vector<std::int64_t>> shapes = {
      {16}, {16, 2}, {4, 1, 8, 8}, {2, 3, 4, 5, 6}};
  for (const auto& shape : shapes) {
    const fm::Batch<> batch{on_device::randn(shape, torch::kDouble)};
    const fm::Noised<> noised = noisify(batch, rng);
    CHECK(noised.t.sizes() == at::IntArrayRef({shape[0]}));
    CHECK(noised.t.scalar_type() == torch::kDouble);
    CHECK((noised.t >= 0).all().item<bool>());
    CHECK((noised.t < 1).all().item<bool>());
    CHECK(std::get<0>(at::_unique(noised.t)).size(0) == shape[0]);
    check_straight(noised, batch.x_1, 1e-12);
  }
}

TEST_CASE("noisifier: an Rng decides everything") {
  const fm::VelocityNoisifier noisify(fm::LinearPath{});
  const fm::Batch<> batch{on_device::randn({6, 2})};
  const fm::Rng rng(8, test_device());
  fm::Rng a = rng.fork("noise", 5);
  fm::Rng b = rng.fork("noise", 5);
  fm::Rng c = rng.fork("noise", 6);
  const fm::Noised<> noised = noisify(batch, a);
  const fm::Noised<> same = noisify(batch, b);
  const fm::Noised<> other = noisify(batch, c);
  CHECK(at::equal(noised.x_t, same.x_t));
  CHECK(at::equal(noised.t, same.t));
  CHECK(at::equal(noised.target, same.target));
  CHECK_FALSE(at::equal(noised.t, other.t));
  CHECK_FALSE(at::equal(noised.target, other.target));
}

TEST_CASE("noisifier: coupling and times and condition are those that it is given") {
  const fm::VelocityNoisifier noisify(
      fm::LinearPath{}, fm::IndependentCoupling(fm::ConstantSource(1)), fm::UniformTime(0.5));
  fm::Rng rng(2, test_device());
  const fm::Batch<at::Tensor> batch{on_device::randn({50, 2}), on_device::arange(50)};
  const fm::Noised<at::Tensor> noised = noisify(batch, rng);
  CHECK(noised.condition.is_same(batch.condition));
  CHECK(noised.t.max().item<float>() == 0.5F);
  CHECK(close(noised.target, batch.x_1 - 1, 1e-6, 1e-6));
  check_straight(noised, batch.x_1, 1e-6);
}

TEST_CASE("noisifier: other targets are those of the same sample") {
  const fm::Batch<> batch{on_device::randn({6, 2})};
  const auto with = [&](auto target) {
    fm::Rng rng(8, test_device());
    return fm::PathNoisifier(fm::CosinePath{}, target, fm::IndependentCoupling<>{},
                             fm::UniformTime{})(batch, rng);
  };
  const fm::Noised<> v = with(fm::VelocityTarget{});
  const fm::Noised<> x_1 = with(fm::X1Target{});
  const fm::Noised<> epsilon = with(fm::EpsilonTarget{});
  CHECK(at::equal(v.x_t, x_1.x_t));
  CHECK(at::equal(v.x_t, epsilon.x_t));
  CHECK(at::equal(x_1.target, batch.x_1));
  const fm::PathSample sample = fm::CosinePath{}.sample(epsilon.target, batch.x_1, v.t);
  CHECK(at::equal(sample.x_t, v.x_t));
  CHECK(at::equal(sample.dx_t, v.target));
}

TEST_CASE("noisifier: times of half precision data are float32") {
  const fm::VelocityNoisifier noisify(fm::LinearPath{});
  fm::Rng rng(1, test_device());
  const fm::Noised<> noised =
      noisify(fm::Batch<>{on_device::randn({5, 2}).to(torch::kBFloat16)}, rng);
  CHECK(noised.t.scalar_type() == torch::kFloat);
  CHECK(noised.x_t.scalar_type() == torch::kBFloat16);
  CHECK(noised.target.scalar_type() == torch::kBFloat16);
}

TEST_CASE("noisifier: data of an integer dtype is a ShapeError") {
  const fm::VelocityNoisifier noisify(fm::LinearPath{});
  fm::Rng rng(1, test_device());
  for (const auto dtype : {torch::kByte, torch::kLong, torch::kBool}) {
    require_error<fm::ShapeError>(
        [&] {
          noisify(fm::Batch<>{on_device::zeros({2, 2}, dtype)}, rng);
        },
        "an integer dtype");
  }
  require_error<fm::ShapeError>([&] { noisify(fm::Batch<>{}, rng); }, "undefined");
}

TEST_CASE("noisifier: a path with randomness of its own draws from the same Rng") {
  const fm::VelocityNoisifier noisify(Bridge{});
  const fm::VelocityNoisifier narrow(Bridge{0});
  const fm::Batch<> batch{on_device::randn({4000, 1}, torch::kDouble)};
  fm::Rng a(3, test_device());
  fm::Rng b(3, test_device());
  fm::Rng c(3, test_device());
  const fm::Noised<> noised = noisify(batch, a);
  CHECK(at::equal(noisify(batch, b).x_t, noised.x_t));
  const fm::Noised<> straight = narrow(batch, c);
  CHECK(at::equal(straight.target, noised.target));
  check_straight(straight, batch.x_1, 1e-12);
  const at::Tensor z = (noised.x_t - straight.x_t).squeeze(1) / (noised.t * (1 - noised.t)).sqrt();
  CHECK(z.std().item<double>() == Approx(0.5).margin(0.03));
  CHECK(noisify.path().scale == 0.5);
  CHECK(narrow.path().scale == 0);
}

TEST_CASE("noisifier: the concept takes noisifiers and lambdas and refuses the rest") {
  using Straight = fm::VelocityNoisifier<fm::LinearPath>;
  static_assert(fm::Noisifier<Straight> && fm::Noisifier<Straight, at::Tensor>);
  static_assert(fm::Noisifier<fm::VelocityNoisifier<Bridge>>);
  static_assert(fm::Noisifier<fm::PathNoisifier<fm::VPPath, fm::EpsilonTarget>>);
  auto mine = [](const fm::Batch<>& batch, fm::Rng&) {
    return fm::Noised<>{batch.x_1, batch.x_1, batch.x_1};
  };
  static_assert(fm::Noisifier<decltype(mine)> && !fm::Noisifier<decltype(mine), at::Tensor>);
  static_assert(!fm::Noisifier<fm::LinearPath>);
  fm::Rng rng(0, test_device());
  CHECK(mine(fm::Batch<>{on_device::ones({1})}, rng).t.item<float>() == 1);
}

TEST_CASE("noisifier: other times alone need no coupling spelled out") {
  const fm::UniformTime early(0.25);
  const fm::VelocityNoisifier short_form(fm::LinearPath{}, early);
  const fm::VelocityNoisifier long_form(fm::LinearPath{}, fm::IndependentCoupling<>{}, early);
  static_assert(std::is_same_v<decltype(short_form), decltype(long_form)>);
  const fm::PathNoisifier other(fm::CosinePath{}, fm::X1Target{}, early);
  const fm::PathNoisifier coupled(fm::CosinePath{}, fm::X1Target{}, fm::IndependentCoupling<>{});
  const auto latest = [](const auto& noisifier) {
    fm::Rng rng(1, test_device());
    return noisifier(fm::Batch<>{on_device::zeros({100, 1})}, rng).t.max().template item<double>();
  };
  CHECK(latest(short_form) == 0.25);
  CHECK(latest(other) == 0.25);
  CHECK(latest(coupled) > 0.5);
  // A time sampler of one's own, a lambda.
  const auto half = [](std::int64_t n, at::TensorOptions options, fm::Rng&) {
    return on_device::full({n}, 0.5, options);
  };
  CHECK(latest(fm::VelocityNoisifier(fm::LinearPath{}, half)) == 0.5);
}

TEST_CASE("noisifier: the data's device may be another than the Rng's") {
  const fm::Batch<at::Tensor> batch{on_device::randn({6, 2}), on_device::arange(6)};
  const auto check = [&](const auto& noisify) {
    fm::Rng rng(1);
    const auto noised = noisify(batch, rng);
    for (const at::Tensor& tensor : {noised.x_t, noised.t, noised.target, noised.condition})
      CHECK(tensor.device() == test_device());
  };
  const fm::LinearPath path;
  check(fm::VelocityNoisifier(path));
  check(fm::VelocityNoisifier(path, fm::LogitNormalTime()));
  check(fm::VelocityNoisifier(path, fm::StratifiedTime()));
  check(fm::VelocityNoisifier(fm::BridgePath(0.5)));
  check(fm::ConditionDropout(fm::VelocityNoisifier(path), torch::tensor({9}), 0.5));
}

TEST_CASE("noisifier: what a path's sample holds beyond x_t and dx_t comes with the example") {
  const fm::VelocityNoisifier noisify(fm::BridgePath(0.5));
  fm::Rng rng(4, test_device());
  const fm::Batch<at::Tensor> batch{on_device::randn({6, 2}), on_device::arange(6)};
  const auto noised = noisify(batch, rng);
  static_assert(std::is_same_v<std::remove_cv_t<decltype(noised)>,
                               fm::NoisedSample<fm::NoisyPathSample, at::Tensor>>);
  static_assert(fm::Noisifier<fm::VelocityNoisifier<fm::BridgePath>, at::Tensor>);
  CHECK(at::equal(noised.x_t, noised.sample.x_t));
  CHECK(at::equal(noised.target, noised.sample.dx_t));
  CHECK(at::equal(noised.condition, batch.condition));
  CHECK(noised.sample.epsilon.sizes() == batch.x_1.sizes());
  // Beside such noise "epsilon" would not be x_0.
  static_assert(!fm::Target<fm::EpsilonTarget, fm::BridgePath>);
  static_assert(fm::Target<fm::X1Target, fm::BridgePath>);
}

TEST_CASE("noisifier: a path of standard normal noise takes sources that are, or are said to be") {
  const fm::TargetPath path(fm::TargetScheduler(0.1));
  const fm::Batch<> batch{on_device::randn({4, 2})};
  fm::Rng rng(5, test_device());
  CHECK(fm::VelocityNoisifier(path)(batch, rng).x_t.size(0) == 4);
  const auto mine = [](const fm::Batch<>& b, fm::Rng& r) { return r.normal(b.x_1.sizes()); };
  const fm::VelocityNoisifier told(path, fm::IndependentCoupling(fm::AssumeNormal(mine)));
  CHECK(told(batch, rng).x_t.size(0) == 4);
  static_assert(fm::standard_normal_source<fm::IndependentCoupling<>>);
  static_assert(!fm::standard_normal_source<fm::IndependentCoupling<fm::PairedSource>>);
  static_assert(!fm::standard_normal_source<decltype(mine)>);
}
