#include "examples/support/gzip.hpp"

#include <zlib.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <memory>

#include "flowmatch/core/error.hpp"

namespace support {

std::vector<std::byte> read_bytes(const std::filesystem::path& path, std::size_t limit) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw flowmatch::DataError("there is no file " + path.string() + "; check the path");
  }
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size > limit) {
    throw flowmatch::DataError(path.string() + " has " + std::to_string(size) +
                               " bytes, more than the " + std::to_string(limit) +
                               " that are read; check that it is the right file");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file) throw flowmatch::DataError("cannot read " + path.string() + "; check its permissions");
  return bytes;
}

std::vector<std::byte> gunzip(const std::vector<std::byte>& packed, std::size_t limit,
                              const std::string& name) {
  const auto bad = [&](const std::string& what) {
    return flowmatch::DataError(name + " cannot be unpacked: " + what + "; download it again");
  };
  if (packed.size() > std::numeric_limits<uInt>::max()) throw bad("it is larger than 4 GiB");
  z_stream stream{};
  constexpr int gzip_only = 16 + MAX_WBITS;
  if (inflateInit2(&stream, gzip_only) != Z_OK) throw bad("zlib could not start");
  const auto end = [](z_stream* s) { inflateEnd(s); };
  const std::unique_ptr<z_stream, decltype(end)> guard(&stream, end);

  std::vector<std::byte> out;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  int whole = 0;  // members that have ended
  int status = Z_OK;
  do {
    // Grows by what has come out so far, so a small file that claims much never allocates much more
    // than it yields.
    const std::size_t used = out.size();
    out.resize(std::min(limit + 1, used + std::max<std::size_t>(used, 1U << 16U)));
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + used);
    const auto room = std::min<std::size_t>(out.size() - used, std::numeric_limits<uInt>::max());
    stream.avail_out = static_cast<uInt>(room);
    status = inflate(&stream, Z_NO_FLUSH);
    out.resize(used + room - stream.avail_out);
    if (out.size() > limit)
      throw bad("it holds more than the " + std::to_string(limit) + " bytes expected");
    if (status == Z_STREAM_END && stream.avail_in > 0) {
      ++whole;
      status = inflateReset(&stream);  // the next member
    }
    if (status == Z_BUF_ERROR || (status == Z_OK && stream.avail_in == 0 && stream.avail_out > 0)) {
      throw bad("it is cut short");
    }
    if (status != Z_OK && status != Z_STREAM_END) {
      if (whole > 0 && stream.total_out == 0) throw bad("something else follows its end");
      throw bad(stream.msg != nullptr ? stream.msg : "it is no gzip file, or damaged");
    }
  } while (status != Z_STREAM_END);
  return out;
}

}  // namespace support
