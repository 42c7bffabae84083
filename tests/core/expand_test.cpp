#include "flowmatch/core/expand.hpp"

#include "tests/support/grouped_locale.hpp"
#include "tests/support/test.hpp"

TEST_CASE("expand: t gets as many dimensions as x has") {
  const at::Tensor t = on_device::rand({3});
  CHECK(fm::expand_time(t, on_device::zeros({3})).sizes() == at::IntArrayRef({3}));
  CHECK(fm::expand_time(t, on_device::zeros({3, 2})).sizes() == at::IntArrayRef({3, 1}));
  CHECK(fm::expand_time(t, on_device::zeros({3, 2, 5})).sizes() == at::IntArrayRef({3, 1, 1}));
  CHECK(fm::expand_time(t, on_device::zeros({3, 1, 4, 4})).sizes() ==
        at::IntArrayRef({3, 1, 1, 1}));
  CHECK(fm::expand_time(t, on_device::zeros({3, 1, 1, 1, 1, 1, 1, 2})).dim() == 8);
}

TEST_CASE("expand: each sample meets its own time") {
  const at::Tensor t = doubles({0, 0.5, 1});
  const at::Tensor x = on_device::ones({3, 2, 2}, torch::kDouble);
  const at::Tensor product = fm::expand_time(t, x) * x;
  for (int i = 0; i < 3; ++i) CHECK(at::equal(product[i], x[i] * t[i]));
}

TEST_CASE("expand: times with strides of their own work") {
  const at::Tensor x = on_device::zeros({3, 2});
  CHECK(at::equal(fm::expand_time(doubles({0, 9, 1, 9, 2, 9}).slice(0, 0, 6, 2), x).squeeze(1),
                  doubles({0, 1, 2})));
  CHECK(at::equal(fm::expand_time(on_device::tensor(0.5).expand({3}), x),
                  on_device::full({3, 1}, 0.5)));
}

TEST_CASE("expand: times that do not fit are a ShapeError with both shapes") {
  const at::Tensor x = on_device::zeros({3, 2});
  require_error<fm::ShapeError>([&] { fm::expand_time(on_device::zeros({2}), x); },
                                "t has shape [2] for x of shape [3, 2]");
  require_error<fm::ShapeError>([&] { fm::expand_time(on_device::zeros({1}), x); },
                                "t has shape [1]");
  require_error<fm::ShapeError>([&] { fm::expand_time(on_device::zeros({3, 1}), x); }, "[3, 1]");
  require_error<fm::ShapeError>([&] { fm::expand_time(on_device::tensor(0.5), x); },
                                "t has shape [] for");
  require_error<fm::ShapeError>(
      [&] { fm::check_time(on_device::zeros({1}), on_device::tensor(1.0)); }, "for x of shape []");
  require_error<fm::ShapeError>([&] { fm::check_time(at::Tensor(), x); }, "undefined");
  require_error<fm::ShapeError>([&] { fm::check_time(on_device::zeros({3}), at::Tensor()); },
                                "undefined");
}

TEST_CASE("expand: times are float32 except for float64 data") {
  CHECK(fm::time_dtype(on_device::zeros({1}, torch::kDouble)) == torch::kDouble);
  CHECK(fm::time_dtype(on_device::zeros({1}, torch::kFloat)) == torch::kFloat);
  CHECK(fm::time_dtype(on_device::zeros({1}, torch::kHalf)) == torch::kFloat);
  CHECK(fm::time_dtype(on_device::zeros({1}, torch::kBFloat16)) == torch::kFloat);
}

TEST_CASE("expand: sums over many steps are float32 for half precision") {
  CHECK(fm::state_dtype(on_device::zeros({1}, torch::kHalf)) == torch::kFloat);
  CHECK(fm::state_dtype(on_device::zeros({1}, torch::kBFloat16)) == torch::kFloat);
  CHECK(fm::state_dtype(on_device::zeros({1}, torch::kFloat)) == torch::kFloat);
  CHECK(fm::state_dtype(on_device::zeros({1}, torch::kDouble)) == torch::kDouble);
  CHECK(fm::state_dtype(on_device::zeros({1}, torch::kComplexDouble)) == torch::kComplexDouble);
  CHECK(fm::state_dtype(on_device::zeros({1}, torch::kComplexFloat)) == torch::kComplexFloat);
  CHECK(fm::state_dtype(on_device::zeros({1}, torch::kComplexHalf)) == torch::kComplexFloat);
}

TEST_CASE("expand: shapes that differ are a ShapeError that names both tensors") {
  const at::Tensor a = on_device::zeros({2, 1});
  CHECK_NOTHROW(fm::check_same_shape(a, "a", on_device::ones({2, 1}), "b"));
  require_error<fm::ShapeError>(
      [&] { fm::check_same_shape(a, "left", on_device::ones({2}), "right"); },
      "left has shape [2, 1] and right has shape [2]");
  require_error<fm::ShapeError>([&] { fm::check_same_shape(at::Tensor(), "left", a, "right"); },
                                "left has shape undefined");
  CHECK(fm::shape_text(on_device::zeros({64, 1, 28, 28})) == "[64, 1, 28, 28]");
}

TEST_CASE("expand: a shape's text does not depend on the program's locale") {
  const GroupedLocale grouped;
  CHECK(fm::shape_text(on_device::zeros({2048, 0, 1000})) == "[2048, 0, 1000]");
  CHECK(fm::shape_text(on_device::zeros({})) == "[]");
}

TEST_CASE("expand: data that cannot be mixed with noise is a ShapeError") {
  fm::check_floating({});
  for (const at::ScalarType type : {at::kHalf, at::kFloat, at::kDouble, at::kComplexFloat})
    fm::check_floating(torch::zeros({2}, type));
  for (const at::ScalarType type : {at::kByte, at::kLong, at::kBool, at::kFloat8_e4m3fn}) {
    require_error<fm::ShapeError>([&] { fm::check_floating(torch::empty({2}, type)); }, "8 bits");
  }
}

TEST_CASE("expand: of repeated elements one is left") {
  const at::Tensor row = on_device::rand({1, 3});
  const at::Tensor repeated = row.expand({5, 3});
  CHECK(at::equal(fm::without_repetitions(repeated), row));
  CHECK(fm::without_repetitions(row.transpose(0, 1).unsqueeze(2).expand({3, 1, 4})).sizes() ==
        at::IntArrayRef({3, 1, 1}));
  CHECK(fm::without_repetitions(row.expand({2, 3})).size(0) == 1);
  CHECK(fm::without_repetitions(row).is_same(row));
  CHECK(fm::without_repetitions(on_device::empty({0, 3})).sizes() == at::IntArrayRef({0, 3}));
}
