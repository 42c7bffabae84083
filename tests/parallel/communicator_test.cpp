#include "flowmatch/parallel/communicator.hpp"

#include "tests/support/ranks.hpp"

namespace {
struct Silent {
  int rank() const { return 0; }
  int size() const { return 1; }
};
}  // namespace

static_assert(fm::Communicator<fm::SingleProcess>);
static_assert(fm::Communicator<ranks::ThreadRank>);
static_assert(!fm::Communicator<Silent>);

TEST_CASE("communicator: a single process is rank 0 of 1 and leaves tensors alone") {
  const fm::SingleProcess alone;
  static_assert(alone.rank() == 0 && alone.size() == 1);
  const at::Tensor t = torch::arange(3);
  alone.all_reduce(t).wait();
  alone.broadcast(t);
  alone.barrier();
  REQUIRE(torch::equal(t, torch::arange(3)));
}
