#include "flowmatch/parallel/gradient_buckets.hpp"

#include <atomic>
#include <cstdint>
#include <vector>

#include "tests/support/networks.hpp"
#include "tests/support/ranks.hpp"

namespace {

networks::Mlp network() {
  at::manual_seed(1);
  networks::Mlp net(2, 16);
  net->to(torch::kDouble);
  return net;
}

/// A rank's own loss.
at::Tensor loss_of(networks::Mlp& net, std::int64_t rank) {
  const at::Tensor x =
      torch::arange(8, torch::kDouble).view({4, 2}) + 10 * static_cast<double>(rank);
  return net->forward(x, x.select(1, 0) / 20).square().mean();
}

std::vector<at::Tensor> gradients(const torch::nn::Module& module) {
  std::vector<at::Tensor> all;
  for (const auto& p : module.parameters()) all.push_back(p.grad());
  return all;
}

/// The sum of the ranks' gradients, by one process.
std::vector<at::Tensor> plain_sum(std::int64_t ranks) {
  networks::Mlp net = network();
  for (std::int64_t rank = 0; rank < ranks; ++rank) loss_of(net, rank).backward();
  return gradients(*net);
}

}  // namespace

TEST_CASE("gradient_buckets: the gradients are the sums over the ranks whatever the buckets") {
  for (const std::int64_t size : {2, 3}) {
    const auto expected = plain_sum(size);
    for (const std::int64_t bytes : {1, 1000, 25 << 20}) {
      INFO(size << " ranks, buckets of " << bytes << " bytes");
      std::vector<std::vector<at::Tensor>> found(static_cast<std::size_t>(size));
      std::vector<networks::Mlp> nets;
      for (std::int64_t rank = 0; rank < size; ++rank) nets.push_back(network());
      std::atomic<std::size_t> buckets = 0;
      ranks::run_well(size, [&](const ranks::ThreadRank& rank) {
        const auto r = static_cast<std::size_t>(rank.rank());
        fm::GradientBuckets all(nets[r]->parameters(), rank, bytes);
        buckets = all.size();
        for (int step = 0; step < 2; ++step) {  // the second step finds nothing left of the first
          nets[r]->zero_grad();
          all.start();
          loss_of(nets[r], rank.rank()).backward();
          all.finish();
        }
        found[r] = gradients(*nets[r]);
      });
      // 64 + 16, 256 + 16, 32 + 2 numbers of 8 bytes; the last come first.
      REQUIRE(buckets == (bytes == 1 ? 6 : bytes == 1000 ? 2 : 1));
      for (std::size_t i = 0; i < expected.size(); ++i) {
        REQUIRE(close(found[0][i], expected[i], 1e-12, 1e-14));
        for (const auto& other : found) REQUIRE(torch::equal(other[i], found[0][i]));
      }
    }
  }
}

TEST_CASE("gradient_buckets: a bucket is sent while backward is still under way") {
  networks::Mlp net = network();
  std::vector<std::int64_t> sent_before;  // gradients that were there when each bucket was sent
  struct Watch {
    networks::MlpImpl* net;
    std::vector<std::int64_t>* seen;
    std::int64_t rank() const { return 0; }
    std::int64_t size() const { return 2; }
    ranks::ThreadRank::Done all_reduce(const at::Tensor&) const {
      std::int64_t n = 0;
      for (const auto& p : net->parameters()) n += p.grad().defined() ? 1 : 0;
      seen->push_back(n);
      return {};
    }
    void broadcast(const at::Tensor&) const {}
    void barrier() const {}
  };
  fm::GradientBuckets buckets(net->parameters(), Watch{net.get(), &sent_before}, 1);
  buckets.start();
  loss_of(net, 0).backward();
  REQUIRE(sent_before.size() == 6);
  REQUIRE(sent_before.front() <= 2);
  buckets.finish();
  REQUIRE(sent_before.size() == 6);
}

TEST_CASE("gradient_buckets: with accumulation only the last backward pass communicates") {
  auto expected = plain_sum(2);
  for (auto& grad : expected) grad *= 3;
  std::vector<networks::Mlp> nets{network(), network()};
  std::vector<int> sums(2);
  struct Count {
    ranks::ThreadRank inner;
    int* count;
    std::int64_t rank() const { return inner.rank(); }
    std::int64_t size() const { return inner.size(); }
    auto all_reduce(const at::Tensor& t) const {
      ++*count;
      return inner.all_reduce(t);
    }
    void broadcast(const at::Tensor& t) const { inner.broadcast(t); }
    void barrier() const { inner.barrier(); }
  };
  ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
    const auto r = static_cast<std::size_t>(rank.rank());
    fm::GradientBuckets buckets(nets[r]->parameters(), Count{rank, &sums[r]});
    loss_of(nets[r], rank.rank()).backward();
    loss_of(nets[r], rank.rank()).backward();
    buckets.start();
    loss_of(nets[r], rank.rank()).backward();
    buckets.finish();
  });
  REQUIRE(sums == std::vector<int>{1, 1});
  const auto found = gradients(*nets[1]);
  for (std::size_t i = 0; i < expected.size(); ++i)
    REQUIRE(close(found[i], expected[i], 1e-12, 1e-14));
}

TEST_CASE("gradient_buckets: parameters that some or all ranks do not use") {
  const auto make = [] {
    std::vector<at::Tensor> p;
    for (int i = 0; i < 4; ++i)
      p.push_back(torch::full({2, 3}, 2.0, torch::kDouble).requires_grad_());
    p[3].set_requires_grad(false);
    return p;
  };
  const std::vector<std::vector<at::Tensor>> parameters{make(), make()};
  ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
    const auto& p = parameters[static_cast<std::size_t>(rank.rank())];
    fm::GradientBuckets buckets(p, rank, 1);
    buckets.start();
    // The first by both, the second by rank 1, the third by none; rank 0 in another order.
    (rank.rank() == 0 ? p[0].sum() : (p[1] * p[1] + p[0]).sum()).backward();
    buckets.finish();
  });
  for (const auto& p : parameters) {
    REQUIRE(torch::equal(p[0].grad(), torch::full({2, 3}, 2.0, torch::kDouble)));
    REQUIRE(torch::equal(p[1].grad(), torch::full({2, 3}, 4.0, torch::kDouble)));
    REQUIRE(!p[2].grad().defined());
    REQUIRE(!p[3].grad().defined());
  }
}

TEST_CASE("gradient_buckets: a parameter that is unfrozen meanwhile is refused") {
  networks::Mlp net = network();
  const at::Tensor bias = net->parameters().back();
  bias.set_requires_grad(false);
  ranks::Meeting meeting(2);
  fm::GradientBuckets buckets(net->parameters(), ranks::ThreadRank(meeting, 0));
  REQUIRE_NOTHROW(buckets.start());
  bias.set_requires_grad(true);
  require_error<fm::OptionError>([&] { buckets.start(); }, "between two calls to fit");
}

TEST_CASE("gradient_buckets: gradients keep the strides of channels-last weights") {
  const auto make = [] {
    return torch::arange(16, torch::kFloat)
        .view({2, 2, 2, 2})
        .to(at::MemoryFormat::ChannelsLast)
        .requires_grad_();
  };
  const std::vector<at::Tensor> weights{make(), make()};
  ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
    const at::Tensor& w = weights[static_cast<std::size_t>(rank.rank())];
    fm::GradientBuckets buckets({w}, rank);
    buckets.start();
    if (rank.rank() == 0) (w * w).sum().backward();
    buckets.finish();
  });
  for (const at::Tensor& w : weights) {
    REQUIRE(w.grad().strides() == w.strides());
    REQUIRE(torch::equal(w.grad(), 2 * w.detach()));
  }
}

TEST_CASE("gradient_buckets: with one rank and after their end they change nothing") {
  networks::Mlp net = network();
  {
    fm::GradientBuckets<fm::SingleProcess> buckets(net->parameters());
    REQUIRE(buckets.size() == 0);
    buckets.start();
    loss_of(net, 0).backward();
    buckets.finish();
  }
  const auto alone = plain_sum(1);
  for (std::size_t i = 0; i < alone.size(); ++i)
    REQUIRE(torch::equal(gradients(*net)[i], alone[i]));
  ranks::Meeting meeting(2);
  { const fm::GradientBuckets buckets(net->parameters(), ranks::ThreadRank(meeting, 0)); }
  for (const at::Tensor& p : net->parameters())
    REQUIRE(torch::autograd::impl::post_acc_grad_hooks(p) == nullptr);
  loss_of(net, 0).backward();  // would wait for the other rank
  REQUIRE(meeting.exchanges == 0);
}

TEST_CASE("gradient_buckets: a size of nothing and sparse gradients are refused") {
  networks::Mlp net = network();
  require_error<fm::OptionError>(
      [&] { fm::GradientBuckets<fm::SingleProcess>(net->parameters(), {}, 0); }, "at least 1");
  torch::nn::Embedding embedding(torch::nn::EmbeddingOptions(3, 2).sparse(true));
  ranks::Meeting meeting(2);
  fm::GradientBuckets buckets(embedding->parameters(), ranks::ThreadRank(meeting, 0));
  buckets.start();
  require_error<fm::OptionError>([&] { embedding->forward(torch::arange(2)).sum().backward(); },
                                 "sparse");
}

TEST_CASE("gradient_buckets: complex and empty parameters are summed beside real ones") {
  const auto make = [] {
    return std::vector<at::Tensor>{
        torch::ones({2}).requires_grad_(), torch::ones({3}, torch::kComplexFloat).requires_grad_(),
        torch::empty({0, 2}, torch::kComplexFloat).requires_grad_(),
        torch::ones({2, 2}, torch::kComplexFloat).requires_grad_(),  // of rank 1 alone
        torch::ones({}, torch::kDouble).requires_grad_()};
  };
  const std::vector<std::vector<at::Tensor>> parameters{make(), make()};
  ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
    const auto& p = parameters[static_cast<std::size_t>(rank.rank())];
    fm::GradientBuckets buckets(p, rank);
    buckets.start();
    const double k = 1 + static_cast<double>(rank.rank());
    at::Tensor loss = k * (p[0].sum() + at::view_as_real(p[1]).select(1, 0).sum() -
                           2 * at::view_as_real(p[1]).select(1, 1).sum() +
                           (2 * at::view_as_real(p[2])).sum() + p[4].to(torch::kFloat));
    if (rank.rank() == 1) loss = loss + (1 * at::view_as_real(p[3])).sum();
    loss.backward();
    // A view that is to be conjugated, as autograd may leave it.
    at::Tensor conjugated = p[1];
    conjugated.mutable_grad() = conjugated.grad().conj().resolve_conj().conj();
    buckets.finish();
  });
  const auto complex = [](double re, double im) { return c10::complex<double>(re, im); };
  for (const auto& p : parameters) {
    REQUIRE(torch::equal(p[0].grad(), torch::full({2}, 3.0F)));
    REQUIRE(torch::equal(p[1].grad().resolve_conj(),
                         torch::full({3}, complex(3, -6), torch::kComplexFloat)));
    REQUIRE(p[2].grad().numel() == 0);
    REQUIRE(torch::equal(p[3].grad(), torch::full({2, 2}, complex(1, 1), torch::kComplexFloat)));
    REQUIRE(p[4].grad().item<double>() == 3);
  }
}
