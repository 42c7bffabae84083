#include "examples/support/machine.hpp"

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"

TEST_CASE("machine: the CPU is always a device") {
  REQUIRE(support::parse_device("cpu") == c10::Device(c10::kCPU));
}

TEST_CASE("machine: a device that is not here is refused with the remedy") {
  for (const std::string name : {"gpu", "CPU", "", "mps", "xla", "cuda:99"}) {
    require_error<fm::OptionError>([&] { support::parse_device(name); }, "'" + name + "'");
    require_error<fm::OptionError>([&] { support::parse_device(name); }, "choose cpu");
  }
}

TEST_CASE("machine: cuda is a device exactly where LibTorch finds one") {
  if (at::globalContext().hasCUDA()) {
    REQUIRE(support::parse_device("cuda") == c10::Device(c10::kCUDA, 0));
    require_error<fm::OptionError>([] { support::parse_device("cuda:x"); }, "takes a number");
  } else {
    require_error<fm::OptionError>([] { support::parse_device("cuda"); }, "has no CUDA");
  }
}

TEST_CASE("machine: threads are set as asked and refused out of range") {
  const int before = at::get_num_threads();
  support::set_up_machine(1);
  REQUIRE(at::get_num_threads() == 1);
  support::set_up_machine(0);
  REQUIRE(at::get_num_threads() == 1);
  support::set_up_machine(before);
  require_error<fm::OptionError>([] { support::set_up_machine(-1); }, "--threads is -1");
  require_error<fm::OptionError>([] { support::set_up_machine(2000); }, "choose 1 to 1024");
}

TEST_CASE("machine: precisions by their names") {
  CHECK(support::parse_precision("float32") == flowmatch::Precision::float32);
  CHECK(support::parse_precision("bfloat16") == flowmatch::Precision::bfloat16);
  CHECK(support::parse_precision("float16") == flowmatch::Precision::float16);
  require_error<flowmatch::OptionError>([] { support::parse_precision("float8"); },
                                        "choose float32, bfloat16 or float16");
}
