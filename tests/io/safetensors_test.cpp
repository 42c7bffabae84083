#include "flowmatch/io/safetensors.hpp"

#include <limits>

#include "tests/io/files.hpp"
#include "tests/support/grouped_locale.hpp"
#include "tests/support/test.hpp"

namespace {

fm::StateDict one(const at::Tensor& tensor, const std::string& name = "a") {
  fm::StateDict state;
  state.insert(name, tensor);
  return state;
}

}  // namespace

TEST_CASE("safetensors: reads every type as Python writes it") {
  for (const auto& file : {fm::load_safetensors(python / "types.safetensors"),
                           fm::map_safetensors(python / "types.safetensors")}) {
    const at::Tensor counting = torch::arange(6).view({2, 3});
    const std::vector<std::pair<std::string, at::ScalarType>> types = {
        {"F64", at::kDouble},
        {"F32", at::kFloat},
        {"F16", at::kHalf},
        {"BF16", at::kBFloat16},
        {"I64", at::kLong},
        {"I32", at::kInt},
        {"I16", at::kShort},
        {"I8", at::kChar},
        {"U64", at::kUInt64},
        {"U32", at::kUInt32},
        {"U16", at::kUInt16},
        {"U8", at::kByte},
        {"C64", at::kComplexFloat},
        {"F8_E4M3", at::kFloat8_e4m3fn},
        {"F8_E5M2", at::kFloat8_e5m2},
    };
    for (const auto& [name, dtype] : types) {
      INFO(name);
      CHECK(same(file.tensors.at(name), counting.to(dtype)));
    }
    CHECK(same(file.tensors.at("BOOL"), torch::tensor({true, false, true})));
    CHECK(file.tensors.at("F8_E8M0").scalar_type() == at::kFloat8_e8m0fnu);
    CHECK(same(file.tensors.at("scalar"), torch::tensor(7.0F)));
    CHECK(same(file.tensors.at("empty"), torch::zeros({0, 3})));
    CHECK(file.tensors.size() == types.size() + 4);
  }
}

TEST_CASE("safetensors: writes the same bytes as Python") {
  const TemporaryFolder folder;
  const fm::Safetensors file = fm::load_safetensors(python / "state_dict.safetensors");
  CHECK(file.metadata.at("note") == "a \"gr\u00f6\u00dfer\" \\ one");
  CHECK(same(file.tensors.at("0.weight"), torch::arange(18, torch::kFloat).view({2, 1, 3, 3})));
  CHECK(same(file.tensors.at("1.num_batches_tracked"), torch::tensor(6, torch::kLong)));
  fm::save_safetensors(folder.path() / "a.safetensors", file.tensors, file.metadata);
  CHECK(bytes_of(folder.path() / "a.safetensors") == bytes_of(python / "state_dict.safetensors"));
}

TEST_CASE("safetensors: a round trip of every type and shape with notes") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  fm::StateDict state;
  for (const auto dtype : fm::detail::safetensors_dtypes) {
    for (const auto& shape : std::vector<std::vector<std::int64_t>>{
             {}, {1}, {5}, {0}, {3, 0, 2}, {2, 3}, {2, 1, 4, 3}}) {
      const at::Tensor tensor = dtype == at::kBool ? torch::rand(shape) > 0.5
                                : dtype == at::kFloat8_e8m0fnu
                                    ? torch::randint(255, shape, torch::kByte).view(dtype)
                                    : (torch::rand(shape) * 100).to(dtype);
      state.insert(std::string(toString(dtype)) + std::to_string(shape.size()) + "/" +
                       std::to_string(state.size()),
                   tensor);
    }
  }
  const std::map<std::string, std::string> notes = {{"a", "b"}, {"\u00e9\n\"", "\\"}};
  fm::save_safetensors(path, state, notes);
  for (const auto& back : {fm::load_safetensors(path), fm::map_safetensors(path)}) {
    CHECK(back.metadata == notes);
    CHECK(back.tensors.size() == state.size());
    for (const auto& entry : state) CHECK(same(back.tensors.at(entry.key()), entry.value()));
    for (const auto& entry : back.tensors) {
      const auto address = reinterpret_cast<std::uintptr_t>(entry.value().const_data_ptr());
      CHECK(address % entry.value().itemsize() == 0);
    }
  }
  fm::save_safetensors(path, fm::StateDict());
  CHECK(fm::load_safetensors(path).tensors.empty());
  CHECK(fm::map_safetensors(path).tensors.empty());
}

TEST_CASE("safetensors: tensors in other layouts are written in C order") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  const at::Tensor base = torch::arange(120, torch::kFloat).view({2, 3, 4, 5}).requires_grad_();
  for (const at::Tensor& tensor :
       {base.contiguous(at::MemoryFormat::ChannelsLast), base.permute({3, 1, 0, 2}),
        base.slice(3, 1, 5, 2), torch::rand({1}).expand({3, 2})}) {
    fm::save_safetensors(path, one(tensor));
    CHECK(same(fm::load_safetensors(path).tensors.at("a"), tensor.detach()));
  }
  const at::Tensor complex = at::complex(torch::rand({3}), torch::rand({3}));
  fm::save_safetensors(path, one(complex.conj()));
  CHECK(same(fm::load_safetensors(path).tensors.at("a"), complex.conj().resolve_conj()));
}

TEST_CASE("safetensors: a mapped file outlives its dict and is never written to") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  fm::save_safetensors(path, one(torch::ones({1000})));
  const std::string before = bytes_of(path);
  at::Tensor tensor = fm::map_safetensors(path).tensors.at("a");
  tensor.add_(1);
  CHECK(at::equal(tensor, torch::full({1000}, 2.0F)));
  CHECK(bytes_of(path) == before);
  // A file that replaces it under its name does not touch the mapping.
  fm::save_safetensors(path, one(torch::zeros({1000})));
  CHECK(at::equal(tensor, torch::full({1000}, 2.0F)));
  CHECK(at::equal(fm::map_safetensors(path).tensors.at("a"), torch::zeros({1000})));
}

TEST_CASE("safetensors: values at odd addresses are read") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  fm::save_safetensors(path, one(doubles({1, 2, 3})));
  std::string bytes = bytes_of(path);
  bytes.insert(9, " ");
  bytes[0] = static_cast<char>(bytes[0] + 1);
  write(path, bytes);
  for (const auto& file : {fm::load_safetensors(path), fm::map_safetensors(path)}) {
    const at::Tensor tensor = file.tensors.at("a");
    CHECK(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 8 == 0);
    CHECK(at::equal(tensor, doubles({1, 2, 3})));
  }
}

TEST_CASE("safetensors: damaged files and truth values that are none are refused") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  fm::save_safetensors(path, one(torch::ones({3})));
  const std::string whole = bytes_of(path);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write(path, whole.substr(0, size));
    REQUIRE_THROWS_AS(fm::load_safetensors(path), fm::CheckpointError);
    REQUIRE_THROWS_AS(fm::map_safetensors(path), fm::CheckpointError);
  }
  write(path, whole + "x");
  require_error<fm::CheckpointError>([&] { fm::map_safetensors(path); }, "it holds 13");
  fm::save_safetensors(path, one(torch::ones({3}, torch::kBool)));
  std::string bytes = bytes_of(path);
  bytes.back() = 2;
  write(path, bytes);
  require_error<fm::CheckpointError>([&] { fm::load_safetensors(path); },
                                     "'a' is of type BOOL with values other than 0 and 1");
}

TEST_CASE("safetensors: what such a file cannot hold is refused and an older file stays") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  fm::save_safetensors(path, one(torch::ones({3})));
  for (const at::Tensor& tensor :
       {torch::ones({2}, torch::kComplexDouble), torch::ones({2, 2}).to_sparse(), at::Tensor(),
        torch::empty({2}, at::kMeta), at::quantize_per_tensor(torch::ones({2}), 0.5, 0, at::kQInt8),
        at::_nested_tensor_from_tensor_list({torch::ones({2}), torch::ones({3})})}) {
    require_error<fm::CheckpointError>([&] { fm::save_safetensors(path, one(tensor)); },
                                       "can't hold 'a'");
  }
  require_error<fm::CheckpointError>(
      [&] { fm::save_safetensors(path, one(torch::ones({2}), "__metadata__")); },
      "another dtype or name");
  require_error<fm::CheckpointError>(
      [&] { fm::save_safetensors(path, one(torch::ones({2}), "\xff")); }, "not UTF-8");
  CHECK(at::equal(fm::load_safetensors(path).tensors.at("a"), torch::ones({3})));
}

TEST_CASE("safetensors: paths that cannot be read or written and a disk that is full") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  for (const auto& wrong : {path, folder.path()}) {
    require_error<fm::CheckpointError>([&] { fm::load_safetensors(wrong); },
                                       "cannot read " + wrong.string());
    require_error<fm::CheckpointError>([&] { fm::map_safetensors(wrong); },
                                       "cannot read " + wrong.string());
  }
  require_error<fm::CheckpointError>(
      [&] { fm::save_safetensors(folder.path() / "no" / "a", one(torch::ones({2}))); },
      "cannot write");
  fm::save_safetensors(path, one(torch::ones({3})));
  std::filesystem::create_symlink("/dev/full", path.string() + ".writing");
  require_error<fm::CheckpointError>(
      [&] { fm::save_safetensors(path, one(torch::zeros({100000}))); },
      "cannot write " + path.string());
  CHECK(at::equal(fm::load_safetensors(path).tensors.at("a"), torch::ones({3})));
  CHECK_FALSE(std::filesystem::exists(path.string() + ".writing"));
}

TEST_CASE("safetensors: files do not depend on the program's locale") {
  const TemporaryFolder folder;
  fm::save_safetensors(folder.path() / "a", one(torch::ones({2048, 3})));
  {
    const GroupedLocale grouped;
    fm::save_safetensors(folder.path() / "b", one(torch::ones({2048, 3})));
    CHECK(fm::load_safetensors(folder.path() / "a").tensors.at("a").size(0) == 2048);
  }
  CHECK(bytes_of(folder.path() / "a") == bytes_of(folder.path() / "b"));
}

TEST_CASE("safetensors: shared and expanded memory and views and no elements come back by value") {
  const TemporaryFolder folder;
  const at::Tensor base = torch::arange(6, torch::kFloat).view({2, 3});
  const at::Tensor complex = at::complex(torch::rand({3}), torch::rand({3}));
  const fm::StateDict state{{"a", base},
                            {"again", base},
                            {"row", base[1]},
                            {"none", torch::zeros({3, 0})},
                            {"wide", base[0].expand({4, 3})},
                            {"negative", at::imag(complex.conj())},
                            {"scalar", torch::tensor(2.5)},
                            {"byte", torch::ones({3}, at::kByte)}};
  fm::save_safetensors(folder.path() / "a", state);
  for (const auto& file :
       {fm::load_safetensors(folder.path() / "a"), fm::map_safetensors(folder.path() / "a")}) {
    for (const auto& [name, tensor] : state)
      CHECK(same(file.tensors.at(name), tensor.resolve_neg()));
  }
}
