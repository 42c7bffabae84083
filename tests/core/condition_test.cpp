#include "flowmatch/core/condition.hpp"

#include "tests/support/test.hpp"

namespace {

/// A user's condition: a label and a weight a sample.
struct Caption {
  at::Tensor label;
  at::Tensor weight;
};
struct Unsupported {};

}  // namespace

template <>
struct flowmatch::condition_traits<Caption> {
  static std::int64_t size(const Caption& c) { return c.label.size(0); }
  static Caption index_select(const Caption& c, const at::Tensor& index) {
    return {c.label.index_select(0, index), c.weight.index_select(0, index)};
  }
  static Caption repeat_interleave(const Caption& c, std::int64_t n) {
    return {c.label.repeat_interleave(n, 0), c.weight.repeat_interleave(n, 0)};
  }
  static Caption cat(const std::vector<Caption>& parts) {
    std::vector<at::Tensor> labels, weights;
    for (const Caption& part : parts) {
      labels.push_back(part.label);
      weights.push_back(part.weight);
    }
    return {at::cat(labels), at::cat(weights)};
  }
  static Caption to(const Caption& c, c10::Device device) {
    return {c.label.to(device), c.weight.to(device)};
  }
};

namespace {

at::Tensor ints(std::vector<std::int64_t> values) {
  return on_device::tensor(values, torch::kLong);
}

template <class C>
using Traits = fm::condition_traits<C>;

}  // namespace

TEST_CASE("condition: the concept takes what has traits and refuses the rest") {
  static_assert(fm::Condition<fm::NoCondition>);
  static_assert(fm::Condition<at::Tensor>);
  static_assert(fm::Condition<std::tuple<at::Tensor, at::Tensor>>);
  static_assert(fm::Condition<std::tuple<at::Tensor, std::tuple<Caption, fm::NoCondition>>>);
  static_assert(fm::Condition<Caption>);
  static_assert(!fm::Condition<Unsupported>);
  static_assert(!fm::Condition<int>);
}

TEST_CASE("condition: NoCondition fits any number of samples") {
  CHECK(Traits<fm::NoCondition>::size({}) == -1);
  CHECK_NOTHROW(fm::check_condition_size(fm::NoCondition{}, 0));
  CHECK_NOTHROW(fm::check_condition_size(fm::NoCondition{}, 1000));
}

TEST_CASE("condition: a tensor is selected and repeated and joined by samples") {
  const at::Tensor c = ints({10, 11, 12});
  CHECK(Traits<at::Tensor>::size(c) == 3);
  CHECK(at::equal(Traits<at::Tensor>::index_select(c, ints({2, 0, 2})), ints({12, 10, 12})));
  CHECK(at::equal(Traits<at::Tensor>::repeat_interleave(c, 2), ints({10, 10, 11, 11, 12, 12})));
  CHECK(at::equal(Traits<at::Tensor>::cat({c, ints({7})}), ints({10, 11, 12, 7})));
  CHECK(Traits<at::Tensor>::to(c, torch::kMeta).device().is_meta());
  CHECK(at::equal(Traits<at::Tensor>::to(c, torch::kCPU), c.cpu()));
  const at::Tensor rows = on_device::arange(6).view({3, 2});
  CHECK(at::equal(Traits<at::Tensor>::repeat_interleave(rows, 2)[1], rows[0]));
  CHECK(at::equal(Traits<at::Tensor>::index_select(rows, ints({1}))[0], rows[1]));
}

TEST_CASE("condition: to_device brings together what cannot be mixed") {
  const at::Tensor here = torch::ones({3});
  const at::Tensor there = fm::to_device(here, test_device());
  CHECK(there.device() == test_device());
  if (!test_device().is_cpu()) CHECK_THROWS(here + there);
  CHECK(at::equal(fm::to_device(there, c10::kCPU) + here, torch::full({3}, 2.0F)));
}

TEST_CASE("condition: a tensor without a dimension of samples is a ShapeError") {
  require_error<fm::ShapeError>([] { Traits<at::Tensor>::size(on_device::tensor(3)); }, "a scalar");
  require_error<fm::ShapeError>([] { Traits<at::Tensor>::size(at::Tensor()); },
                                "an undefined tensor");
}

TEST_CASE("condition: a tuple acts on each of its parts") {
  using Tuple = std::tuple<at::Tensor, fm::NoCondition, at::Tensor>;
  const Tuple c{ints({1, 2}), {}, doubles({0.5, 0.25})};
  CHECK(Traits<Tuple>::size(c) == 2);
  const Tuple selected = Traits<Tuple>::index_select(c, ints({1}));
  CHECK(at::equal(std::get<0>(selected), ints({2})));
  CHECK(at::equal(std::get<2>(selected), doubles({0.25})));
  const Tuple repeated = Traits<Tuple>::repeat_interleave(c, 2);
  CHECK(at::equal(std::get<0>(repeated), ints({1, 1, 2, 2})));
  CHECK(at::equal(std::get<2>(repeated), doubles({0.5, 0.5, 0.25, 0.25})));
  const Tuple joined = Traits<Tuple>::cat({c, selected});
  CHECK(at::equal(std::get<0>(joined), ints({1, 2, 2})));
  CHECK(at::equal(std::get<2>(joined), doubles({0.5, 0.25, 0.25})));
  CHECK(std::get<2>(Traits<Tuple>::to(c, torch::kMeta)).device().is_meta());
  CHECK(at::equal(std::get<2>(Traits<Tuple>::to(c, torch::kCPU)), std::get<2>(c).cpu()));
}

TEST_CASE("condition: parts of a tuple that disagree in size are a ShapeError") {
  using Tuple = std::tuple<at::Tensor, at::Tensor>;
  require_error<fm::ShapeError>(
      [] {
        Traits<Tuple>::size({ints({1, 2}), ints({1, 2, 3})});
      },
      "hold 2 and 3 samples");
  CHECK(Traits<std::tuple<>>::size({}) == -1);
  CHECK(Traits<Tuple>::size({ints({}), ints({})}) == 0);
}

TEST_CASE("condition: a struct of the user works alone and in a tuple") {
  const Caption c{ints({3, 4}), doubles({1, 2})};
  using Tuple = std::tuple<Caption, at::Tensor>;
  const Tuple pair{c, ints({8, 9})};
  CHECK(Traits<Tuple>::size(pair) == 2);
  const Tuple selected = Traits<Tuple>::index_select(pair, ints({1, 0}));
  CHECK(at::equal(std::get<0>(selected).label, ints({4, 3})));
  CHECK(at::equal(std::get<0>(selected).weight, doubles({2, 1})));
  CHECK(at::equal(std::get<1>(selected), ints({9, 8})));
  CHECK_NOTHROW(fm::check_condition_size(c, 2));
}

TEST_CASE("condition: a size that does not fit the samples is a ShapeError") {
  CHECK_NOTHROW(fm::check_condition_size(ints({1, 2}), 2));
  require_error<fm::ShapeError>(
      [] {
        fm::check_condition_size(ints({1, 2}), 3);
      },
      "2 entries for 3 samples");
  require_error<fm::ShapeError>([] { fm::check_condition_size(ints({}), 3); },
                                "0 entries for 3 samples");
}
