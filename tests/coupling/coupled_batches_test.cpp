#include "flowmatch/coupling/coupled_batches.hpp"

#include "flowmatch/coupling/optimal_transport.hpp"
#include "flowmatch/data/prefetch.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "tests/support/test.hpp"

namespace {

auto source() {
  torch::manual_seed(1);
  return fm::TensorBatches(on_device::randn({70, 2}), on_device::arange(70), 16);
}

template <class S>
std::vector<fm::Batch<at::Tensor>> epoch(S& batches, std::int64_t which, std::int64_t from = 0) {
  from == 0 ? batches.start_epoch(which) : batches.start_epoch(which, from);
  std::vector<fm::Batch<at::Tensor>> all;
  while (auto batch = batches.next()) all.push_back(*batch);
  return all;
}

}  // namespace

TEST_CASE("coupled_batches: a pool is coupled as one batch and given in the source's order") {
  auto plain = source();
  fm::CoupledBatches pooled(source(), fm::OptimalTransportCoupling<>{}, 5, 2);
  static_assert(fm::RestartableSource<decltype(pooled)>);
  CHECK(pooled.batches_per_epoch() == plain.batches_per_epoch());
  const auto expected = epoch(plain, 1), got = epoch(pooled, 1);
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(at::equal(got[i].x_1, expected[i].x_1));
    CHECK(at::equal(got[i].condition, expected[i].condition));
    CHECK(got[i].x_0.sizes() == got[i].x_1.sizes());
  }
  // The first two batches are the best pairing of both together.
  const at::Tensor x_0 = at::cat({got[0].x_0, got[1].x_0}), x_1 = at::cat({got[0].x_1, got[1].x_1});
  CHECK(at::equal(fm::OptimalTransportCoupling<>{}.assignment(x_0, x_1), on_device::arange(32)));
}

TEST_CASE("coupled_batches: pairs depend on seed, epoch and pool alone, and it starts anywhere") {
  fm::CoupledBatches pooled(source(), fm::OptimalTransportCoupling<>{}, 5, 3);
  const auto whole = epoch(pooled, 2);
  for (const std::int64_t from : {1, 2, 3, 4}) {
    fm::CoupledBatches other(source(), fm::OptimalTransportCoupling<>{}, 5, 3);
    const auto rest = epoch(other, 2, from);
    REQUIRE(rest.size() + static_cast<std::size_t>(from) == whole.size());
    CHECK(at::equal(rest.front().x_0, whole[static_cast<std::size_t>(from)].x_0));
    CHECK(at::equal(rest.back().x_0, whole.back().x_0));
  }
  fm::CoupledBatches seeded(source(), fm::OptimalTransportCoupling<>{}, 6, 3);
  CHECK_FALSE(at::equal(epoch(seeded, 2)[0].x_0, whole[0].x_0));
  CHECK_FALSE(at::equal(epoch(pooled, 3)[0].x_0, whole[0].x_0));
  CHECK(pooled.fingerprint() != seeded.fingerprint());
}

TEST_CASE("coupled_batches: a thread couples ahead") {
  fm::CoupledBatches direct(source(), fm::OptimalTransportCoupling<>{}, 5, 2);
  fm::Prefetch ahead(fm::CoupledBatches(source(), fm::OptimalTransportCoupling<>{}, 5, 2));
  const auto a = epoch(direct, 0), b = epoch(ahead, 0);
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(at::equal(a[i].x_0, b[i].x_0));
}

TEST_CASE("coupled_batches: a pool below one batch is refused") {
  require_error<fm::OptionError>(
      [] { fm::CoupledBatches(source(), fm::IndependentCoupling<>{}, 0, 0); }, "at least 1");
}
