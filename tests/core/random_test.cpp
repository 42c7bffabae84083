#include "flowmatch/core/random.hpp"

#include <set>

#include "tests/support/test.hpp"

namespace {

at::Tensor first_normals(fm::Rng rng) { return rng.normal({8}, torch::kDouble); }

}  // namespace

TEST_CASE("random: the same seed gives the same bits") {
  fm::Rng a(123, test_device());
  fm::Rng b(123, test_device());
  for (int round = 0; round < 3; ++round) {
    CHECK(at::equal(a.normal({5, 7}), b.normal({5, 7})));
    CHECK(at::equal(a.uniform({33}), b.uniform({33})));
    CHECK(at::equal(a.permutation(50), b.permutation(50)));
  }
  CHECK_FALSE(at::equal(first_normals(fm::Rng(123, test_device())),
                        first_normals(fm::Rng(124, test_device()))));
}

TEST_CASE("random: a stream moves on") {
  fm::Rng rng(1, test_device());
  CHECK_FALSE(at::equal(rng.normal({8}), rng.normal({8})));
}

TEST_CASE("random: a fork neither reads nor moves the stream") {
  fm::Rng a(5, test_device());
  const at::Tensor before = first_normals(a.fork("noise", 3));
  a.normal({1000});
  CHECK(at::equal(first_normals(a.fork("noise", 3)), before));

  fm::Rng b(5, test_device());
  b.fork("noise", 3).normal({10});
  fm::Rng c(5, test_device());
  CHECK(at::equal(b.normal({8}), c.normal({8})));
}

TEST_CASE("random: purposes and indices and seeds of forks all tell apart") {
  std::set<std::uint64_t> seeds;
  std::set<double> numbers;
  for (const std::uint64_t seed : {0U, 1U, 2U}) {
    const fm::Rng rng(seed, test_device());
    seeds.insert(rng.seed());
    for (const char* purpose : {"", "a", "b", "ab", "ba", "noise"}) {
      for (std::uint64_t index = 0; index < 20; ++index) {
        const fm::Rng fork = rng.fork(purpose, index);
        seeds.insert(fork.seed());
        numbers.insert(first_normals(fork)[0].item<double>());
      }
    }
  }
  CHECK(seeds.size() == 3 * (1 + 6 * 20));
  CHECK(numbers.size() == 3 * 6 * 20);
  const fm::Rng rng(9, test_device());
  CHECK(rng.fork("a").seed() == rng.fork("a", 0).seed());
  CHECK(rng.fork("a").fork("b").seed() != rng.fork("b").fork("a").seed());
}

TEST_CASE("random: the derivation of forks stays what checkpoints rely on") {
  // FNV-1a of the purpose and SplitMix64 between, computed by other means.
  CHECK(fm::Rng(42).fork("noise", 7).seed() == 0x58530430fd997e7aU);
}

TEST_CASE("random: normal and uniform numbers have their moments and options") {
  fm::Rng rng(2, test_device());
  const at::Tensor z = rng.normal({200, 500}, torch::kDouble);
  CHECK(z.sizes() == at::IntArrayRef({200, 500}));
  CHECK(z.scalar_type() == torch::kDouble);
  CHECK(z.mean().item<double>() == Approx(0).margin(0.02));
  CHECK(z.std().item<double>() == Approx(1).margin(0.02));
  const at::Tensor u = rng.uniform({100000});
  CHECK(u.scalar_type() == torch::kFloat);
  CHECK(u.min().item<float>() >= 0);
  CHECK(u.max().item<float>() < 1);
  CHECK(u.mean().item<double>() == Approx(0.5).margin(0.01));
}

TEST_CASE("random: a permutation holds every number once") {
  const at::Tensor order = fm::Rng(3, test_device()).permutation(100);
  CHECK(order.scalar_type() == torch::kLong);
  CHECK_FALSE(at::equal(order, on_device::arange(100)));
  CHECK(at::equal(std::get<0>(order.sort()), on_device::arange(100)));
}

TEST_CASE("random: the default generator is left alone") {
  torch::manual_seed(11);
  const at::Tensor expected = torch::rand({4}, test_device());
  torch::manual_seed(11);
  fm::Rng rng(11, test_device());
  rng.normal({100});
  rng.permutation(10);
  rng.fork("x").uniform({10});
  CHECK(at::equal(torch::rand({4}, test_device()), expected));
  CHECK(rng.device() == test_device());
  CHECK(rng.generator().current_seed() == 11);
}

TEST_CASE(
    "random: splits differ from call to call and follow the seed, whatever is drawn between") {
  fm::Rng a(3, test_device()), b(3, test_device()), c(4, test_device());
  const at::Tensor first = a.split().normal({5});
  a.normal({100});
  const at::Tensor second = a.split().normal({5});
  fm::Rng copy = b;  // shares the stream, and so the count
  CHECK(at::equal(copy.split().normal({5}), first));
  CHECK(at::equal(b.split().normal({5}), second));
  CHECK_FALSE(at::equal(first, second));
  CHECK_FALSE(at::equal(c.split().normal({5}), first));
  CHECK_FALSE(at::equal(fm::Rng(3, test_device()).normal({5}), first));
}

// What the CPU's generator makes of a seed.
TEST_CASE("random: every bit of a seed counts, and small seeds are LibTorch's own", "[cpu]") {
  std::set<double> numbers;
  for (int bit = 0; bit < 64; ++bit) {
    for (const std::uint64_t low : {0U, 1U}) {
      const std::uint64_t seed = (std::uint64_t{1} << static_cast<unsigned>(bit)) ^ low;
      numbers.insert(fm::Rng(seed).uniform({}, torch::kDouble).item<double>());
    }
  }
  CHECK(numbers.size() == 128);
  at::Generator own = at::detail::createCPUGenerator(0xffffffffU);
  CHECK(at::equal(fm::Rng(0xffffffffU).normal({8}), at::randn({8}, own)));
  // Forks draw as they did.
  const fm::Rng fork = fm::Rng(42).fork("noise", 7);
  at::Generator forked = at::detail::createCPUGenerator(0x58530430fd997e7aU);
  CHECK(at::equal(fm::Rng(fork).normal({8}), at::randn({8}, forked)));
}
