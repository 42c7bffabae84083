#include "flowmatch/io/npy.hpp"

#include <fstream>
#include <limits>

#include "tests/io/files.hpp"
#include "tests/support/grouped_locale.hpp"
#include "tests/support/test.hpp"

namespace {

/// A .npy file of format 1.0 with the given header, as numpy.save makes it: filled with spaces and
/// a line break to a multiple of 64.
std::string npy(std::string header, const std::string& data, char major = 1) {
  while ((10 + header.size()) % 64 != 63) header += ' ';
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += major;
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xFFU);
  bytes += static_cast<char>(header.size() >> 8U);
  return bytes + header + data;
}

std::string header_of(const std::string& descr, const std::string& shape,
                      const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

/// float32 1, 2, 3, 4, 5, 6.5
const std::string six_floats(
    "\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40"
    "\x00\x00\x80\x40\x00\x00\xa0\x40\x00\x00\xd0\x40",
    24);

at::Tensor parse(const std::string& bytes) { return fm::parse_npy(bytes, "test.npy"); }

}  // namespace

TEST_CASE("npy: a round trip of every dtype and shape") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.npy";
  for (const auto dtype : fm::detail::npy_dtypes) {
    INFO(toString(dtype));
    for (const auto& shape : std::vector<std::vector<std::int64_t>>{
             {}, {1}, {5}, {0}, {3, 0, 2}, {2, 3}, {2, 1, 4, 3}, {1, 1, 1, 1, 1, 1, 1}}) {
      const at::Tensor tensor = (torch::rand(shape) * (dtype == at::kBool ? 2 : 100)).to(dtype);
      fm::save_npy(path, tensor);
      const at::Tensor back = fm::load_npy(path);
      CHECK(back.scalar_type() == dtype);
      CHECK(back.sizes() == tensor.sizes());
      CHECK(same(back, tensor));
    }
  }
}

TEST_CASE("npy: special values come back bit for bit") {
  const TemporaryFolder folder;
  const at::Tensor special =
      doubles({std::numeric_limits<double>::infinity(), -0.0, 5e-324, 1e308, 0.1});
  fm::save_npy(folder.path() / "s.npy", special);
  const at::Tensor back = fm::load_npy(folder.path() / "s.npy");
  CHECK(back.view(torch::kLong).equal(special.view(torch::kLong)));
}

TEST_CASE("npy: tensors that are not contiguous or need a gradient are written in C order") {
  const TemporaryFolder folder;
  const at::Tensor base = torch::arange(24, torch::kFloat).view({4, 6}).requires_grad_();
  const at::Tensor view = base.t().slice(0, 0, 6, 2);
  REQUIRE_FALSE(view.is_contiguous());
  fm::save_npy(folder.path() / "v.npy", view);
  CHECK(fm::load_npy(folder.path() / "v.npy").equal(view.detach()));
}

TEST_CASE("npy: reads a file as NumPy writes it") {
  // numpy.save of array([[1, 2, 3], [4, 5, 6.5]], '<f4'): 118 bytes of header, 128 before the data.
  std::string header = header_of("<f4", "(2, 3)");
  header.resize(117, ' ');
  const std::string bytes = npy(header, six_floats);
  REQUIRE(bytes.size() == 128 + 24);
  const at::Tensor expected = torch::tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.5F}).view({2, 3});
  CHECK(parse(bytes).equal(expected));
  CHECK(parse(npy(header_of("<f4", "(6,)"), six_floats)).equal(expected.view({6})));
  CHECK(parse(npy(header_of("|u1", "()"), "\x07")).equal(torch::tensor(7, torch::kByte)));
  CHECK(parse(npy(header_of("<i8", "(1,)"), std::string("\xfe\xff\xff\xff\xff\xff\xff\xff", 8)))
            .equal(torch::tensor({-2}, torch::kLong)));
  CHECK(parse(npy(header_of("<f8", "(2, 0)"), "")).sizes() == at::IntArrayRef{2, 0});
}

TEST_CASE("npy: writes what NumPy reads") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "w.npy";
  const at::Tensor six = torch::tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.5F});
  fm::save_npy(path, six.view({2, 3}));
  CHECK(bytes_of(path) == npy(header_of("<f4", "(2, 3)"), six_floats));
  fm::save_npy(path, six);
  CHECK(bytes_of(path) == npy(header_of("<f4", "(6, )"), six_floats));
  fm::save_npy(path, torch::tensor(7, torch::kByte));
  CHECK(bytes_of(path) == npy(header_of("|u1", "()"), "\x07"));
  // Data begins at a multiple of 64 for headers of any length.
  for (std::int64_t n = 1; n < 9; ++n) {
    fm::save_npy(path, torch::zeros(std::vector<std::int64_t>(static_cast<std::size_t>(n), 1)));
    CHECK((bytes_of(path).size() - 4) % 64 == 0);
  }
}

TEST_CASE("npy: a file cut at any byte is refused") {
  const std::string bytes = npy(header_of("<f4", "(2, 3)"), six_floats);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    INFO("cut at " << size);
    REQUIRE_THROWS_AS(parse(bytes.substr(0, size)), fm::DataError);
  }
  require_error<fm::DataError>([&] { parse(bytes + "x"); },
                               "declares 24 bytes of data, it holds 25");
  require_error<fm::DataError>([&] { parse(bytes.substr(0, bytes.size() - 1)); }, "it holds 23");
  require_error<fm::DataError>([&] { parse(bytes.substr(0, 40)); }, "ends within its header");
  require_error<fm::DataError>([&] { parse(""); }, "test.npy is not a usable .npy file");
}

TEST_CASE("npy: an altered byte of the header is refused or harmless") {
  const std::string bytes = npy(header_of("<f4", "(2, 3)"), six_floats);
  const std::size_t header_end = bytes.size() - six_floats.size();
  int refused = 0;
  for (std::size_t i = 0; i < header_end; ++i) {
    for (const char value : {'\0', '0', '1', '9', '-', '(', ')', ',', ' ', '\'', 'x', '\xff'}) {
      std::string altered = bytes;
      altered[i] = value;
      try {
        const at::Tensor tensor = parse(altered);
        REQUIRE(tensor.nbytes() == six_floats.size());
      } catch (const fm::DataError&) {
        ++refused;
      }
    }
  }
  CHECK(refused > 300);
}

TEST_CASE("npy: each thing that is wrong with a header is named") {
  const auto refused = [](const std::string& bytes, const std::string& message) {
    require_error<fm::DataError>([&] { parse(bytes); }, message);
  };
  const auto with = [](const std::string& descr, const std::string& shape) {
    return npy(header_of(descr, shape), six_floats);
  };
  refused("\x89PNG\r\n and more than ten bytes", "magic");
  refused(npy(header_of("<f4", "(6,)"), six_floats, 4), "format version is none of 1, 2 and 3");
  refused(npy(header_of("<f4", "(6,)"), six_floats, 0), "format version is none of 1, 2 and 3");
  refused(with("<f16", "(6,)"), "its type '<f16' is none of floats up to 64 bits");
  refused(with("<U6", "(6,)"), "its type '<U6' is none of");
  refused(with("<M8[ns]", "(3,)"), "its type '<M8[ns]' is none of");
  refused(with("|V4", "(6,)"), "its type '|V4' is none of");
  refused(with("", "(6,)"), "its type '' is none of");
  refused(with("<<f4", "(6,)"), "its type '<<f4' is none of");
  refused(with("|O", "(6,)"), "it holds Python objects");
  refused(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", six_floats),
          "structures");
  refused(
      npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", six_floats),
      "has 'descr' twice");
  refused(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'more': 1}", six_floats),
          "an unknown 'more'");
  refused(npy("{'descr': '<f4', 'fortran_order': None, 'shape': (6,)}", six_floats),
          "neither True nor False");
  refused(npy(header_of("<f4", "(6,)") + "}", six_floats), "goes on behind its end");
  refused(npy("['descr']", six_floats), "no dict");
  refused(npy(header_of("|b1", "(2,)"), "\x01\x02"), "values other than 0 and 1");
  refused(npy("{'fortran_order': False, 'shape': (6,), }", six_floats), "no 'descr'");
  refused(npy("{'descr': '<f4', 'shape': (6,), }", six_floats), "no 'fortran_order'");
  refused(npy("{'descr': '<f4', 'fortran_order': False, }", six_floats), "no 'shape'");
  refused(npy("{'descr':", six_floats), "its type is no text");
  refused(with("<f4", "6"), "its shape is no tuple");
  refused(with("<f4", "(6"), "its shape is no tuple");
  refused(with("<f4", "(-6,)"), "a size that is no count");
  refused(with("<f4", "(six,)"), "a size that is no count");
  refused(with("<f4", "(99999999999999999999,)"), "a size that is no count");
  refused(with("<f4", "(5,)"), "declares 20 bytes of data, it holds 24");
  refused(with("<f8", "(6,)"), "declares 48 bytes");
}

TEST_CASE("npy: huge declared sizes are refused before anything is allocated") {
  for (const char* shape :
       {"(4611686018427387904, 4611686018427387904)", "(9223372036854775807,)",
        "(4294967296, 4294967296, 4294967296)", "(0, 4611686018427387904, 4611686018427387904)"}) {
    INFO(shape);
    require_error<fm::DataError>([&] { parse(npy(header_of("<f4", shape), "")); }, "overflows");
  }
  require_error<fm::DataError>([] { parse(npy(header_of("<f4", "(1099511627776,)"), "")); },
                               "declares 4398046511104 bytes of data");
}

TEST_CASE("npy: types of other machines and programs are read") {
  using namespace std::string_literals;
  CHECK(same(parse(npy(header_of("<u1", "(2,)"), "ab")),
             torch::tensor({97, 98}, at::kByte)));  // cnpy
  CHECK(same(parse(npy(header_of("<b1", "(2,)"), "\x01\0"s)), torch::tensor({true, false})));
  CHECK(same(parse(npy(header_of(">u1", "(2,)"), "ab")), torch::tensor({97, 98}, at::kByte)));
  CHECK(same(parse(npy(header_of("|i1", "(1,)"), "\xff")), torch::tensor({-1}, at::kChar)));
  for (const char* little : {"<i2", "=i2", "i2", "|i2"})
    CHECK(same(parse(npy(header_of(little, "(2,)"), "\x01\x02\xff\xff")),
               torch::tensor({513, -1}, at::kShort)));
  CHECK(same(parse(npy(header_of(">i2", "(2,)"), "\x02\x01\xff\xfe")),
             torch::tensor({513, -2}, at::kShort)));
  CHECK(same(parse(npy(header_of(">f4", "()"), "\x3f\xc0\0\0"s)), torch::tensor(1.5F)));
  CHECK(same(parse(npy(header_of(">f8", "(1,)"), "\x3f\xf8\0\0\0\0\0\0"s)), doubles({1.5})));
  const at::Tensor complex = at::complex(torch::tensor({1.5F}), torch::tensor({2.0F}));
  CHECK(same(parse(npy(header_of(">c8", "(1,)"), "\x3f\xc0\0\0\x40\0\0\0"s)), complex));
  CHECK(same(parse(npy(header_of("<c8", "(1,)"), "\0\0\xc0\x3f\0\0\0\x40"s)), complex));
  CHECK(same(parse(npy(header_of("<f2", "(1,)"), "\0\x3e"s)), torch::tensor({1.5}, at::kHalf)));
  CHECK(same(parse(npy(header_of("<u4", "(1,)"), "\xff\xff\xff\xff")),
             torch::tensor({4294967295}).to(at::kUInt32)));
}

TEST_CASE("npy: headers are read as Python would read them") {
  const at::Tensor six = torch::tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.5F}).view({2, 3});
  for (const char* header :
       {"{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}",
        "{\"descr\": \"<f4\", \"fortran_order\": False, \"shape\": (2, 3), }",
        "{'descr':'<f4','fortran_order':False,'shape':(2,3)}",
        " {\t'descr' : '<f4' ,\n 'fortran_order' : False , 'shape' : ( 2 , 3 , ) , } \r",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }"}) {
    INFO(header);
    CHECK(same(parse(npy(header, six_floats)), six));
  }
  for (const char major : {'\2', '\3'}) {
    std::string bytes = npy(header_of("<f4", "(2, 3)"), six_floats, major);
    bytes.insert(10, 2, '\0');  // the length has four bytes
    CHECK(same(parse(bytes), six));
    require_error<fm::DataError>([&] { parse(bytes.substr(0, 11)); }, "ends within its header");
    bytes[11] = '\x7f';
    require_error<fm::DataError>([&] { parse(bytes); }, "ends within its header");
  }
}

TEST_CASE("npy: Fortran order is put in C order") {
  const at::Tensor six = torch::tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.5F});
  const at::Tensor read = parse(npy(header_of("<f4", "(2, 3)", "True"), six_floats));
  CHECK(same(read, six.view({3, 2}).t()));
  CHECK(read.is_contiguous());
  CHECK(same(parse(npy(header_of("<f4", "(1, 2, 3)", "True"), six_floats)),
             six.view({3, 2, 1}).permute({2, 1, 0})));
  CHECK(same(parse(npy(header_of("<f4", "(6,)", "True"), six_floats)), six));
  CHECK(parse(npy(header_of("<f4", "(0, 3)", "True"), "")).sizes() == at::IntArrayRef{0, 3});
  CHECK(parse(npy(header_of("<f4", "()", "True"), six_floats.substr(0, 4))).item<float>() == 1);
}

TEST_CASE("npy: conjugates and views and expanded tensors are written with their values") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.npy";
  const at::Tensor complex = at::complex(torch::rand({2, 3}), torch::rand({2, 3}));
  for (const at::Tensor& tensor :
       {complex.conj(), complex.conj().t(), at::imag(complex.conj()),
        torch::rand({1, 2}).expand({3, 2}),
        torch::rand({2, 3, 4, 5}).contiguous(at::MemoryFormat::ChannelsLast), torch::zeros({3, 0}),
        torch::rand({5}).unfold(0, 3, 1)}) {
    fm::save_npy(path, tensor);
    CHECK(same(fm::load_npy(path), tensor.resolve_conj().resolve_neg()));
  }
}

TEST_CASE("npy: what NumPy has no type for is refused and an older file stays") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.npy";
  fm::save_npy(path, torch::ones({3}));
  for (const at::Tensor& tensor :
       {torch::ones({2}, at::kBFloat16), torch::ones({2}).to(at::kFloat8_e5m2), at::Tensor(),
        torch::ones({2, 2}).to_sparse(), torch::empty({2}, at::kMeta),
        at::quantize_per_tensor(torch::ones({2}), 0.5, 0, at::kQInt8)}) {
    require_error<fm::DataError>([&] { fm::save_npy(path, tensor); }, "such as float32, first");
  }
  CHECK(same(fm::load_npy(path), torch::ones({3})));
}

TEST_CASE("npy: paths that cannot be read or written are named and an older file stays") {
  const TemporaryFolder folder;
  require_error<fm::DataError>([&] { fm::load_npy(folder.path() / "none.npy"); }, "none.npy");
  require_error<fm::DataError>([&] { fm::load_npy(folder.path()); }, "cannot read");
  require_error<fm::DataError>(
      [&] { fm::save_npy(folder.path() / "no" / "such.npy", torch::ones({2})); }, "cannot write");
  const auto blocked = folder.path() / "folder.npy";
  std::filesystem::create_directories(blocked / "inside");
  require_error<fm::DataError>([&] { fm::save_npy(blocked, torch::ones({2})); }, "cannot write");
  // No temporary file stays behind, after failures as after successes.
  fm::save_npy(folder.path() / "good.npy", torch::ones({2}));
  fm::save_npy(folder.path() / "good.npy", torch::zeros({3}));
  CHECK(fm::load_npy(folder.path() / "good.npy").equal(torch::zeros({3})));
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path()))
    ++entries;
  CHECK(entries == 2);
}

TEST_CASE("npy: an older file survives a disk that is full") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.npy";
  fm::save_npy(path, torch::ones({3}));
  std::filesystem::create_symlink("/dev/full", path.string() + ".writing");
  require_error<fm::DataError>([&] { fm::save_npy(path, torch::zeros({100000})); },
                               "cannot write " + path.string());
  CHECK(at::equal(fm::load_npy(path), torch::ones({3})));
  fm::save_npy(path, torch::zeros({2}));
  CHECK(at::equal(fm::load_npy(path), torch::zeros({2})));
}

TEST_CASE("npy: files do not depend on the program's locale") {
  const TemporaryFolder folder;
  fm::save_npy(folder.path() / "a.npy", torch::ones({2048, 3}));
  {
    const GroupedLocale grouped;
    fm::save_npy(folder.path() / "b.npy", torch::ones({2048, 3}));
    CHECK(fm::load_npy(folder.path() / "a.npy").sizes() == at::IntArrayRef{2048, 3});
  }
  CHECK(bytes_of(folder.path() / "a.npy") == bytes_of(folder.path() / "b.npy"));
}

TEST_CASE("npy: as many dimensions as NumPy has and no more") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.npy";
  for (const std::size_t n : {17U, 33U, 64U}) {
    std::vector<std::int64_t> shape(n, 1);
    shape[n - 2] = 3;
    const at::Tensor tensor = torch::arange(3, torch::kFloat).view(shape);
    fm::save_npy(path, tensor);
    CHECK(fm::load_npy(path).equal(tensor));
  }
  const at::Tensor many = torch::zeros(std::vector<std::int64_t>(65, 1));
  require_error<fm::DataError>([&] { fm::save_npy(path, many); }, "65 dimensions");
  CHECK(fm::load_npy(path).dim() == 64);  // the older file stays
  std::string shape;
  for (int i = 0; i < 65; ++i) shape += "1, ";
  require_error<fm::DataError>(
      [&] { parse(npy(header_of("<f4", "(" + shape + ")"), std::string(4, '\0'))); },
      "more than 64 dimensions");
}
