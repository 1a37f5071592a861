#include "pte_file.h"

#include <cctype>
#include <cstdint>
#include <cstring>

#include "files.h"
#include "runtime.h"

namespace runner {
namespace {

uint64_t little_endian(const uint8_t* p, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | p[i];
  return value;
}

}  // namespace

// File format: a flatbuffer (root offset, then identifier), whose first table field is preceded by the extended
// header "eh00": u32 length, u64 program size, u64 segment base offset, and from length 32 on u64 segment bytes.
// Source: schema/extended_header.h of ExecuTorch.
void check_pte(const std::string& path) {
  size_t size = 0;
  const Fd fd = open_file(path, &size);
  uint8_t head[64] = {};
  if (size < sizeof head) throw Failure(kRefused, "load", "truncated", "the file has only " + std::to_string(size) + " bytes");
  read_exactly(fd.get(), head, sizeof head, 0);
  const std::string magic(reinterpret_cast<const char*>(head) + 4, 4);
  if (magic.compare(0, 2, "ET") != 0 || !isdigit(head[6]) || !isdigit(head[7]))
    throw Failure(kRefused, "load", "bad_magic", "not a .pte file: its identifier is \"" + magic + "\", not \"ET12\"");
  if (magic != "ET12")
    throw Failure(kRefused, "load", "bad_version", "the file's format is " + magic + ", this runner reads ET12");
  if (std::memcmp(head + 8, "eh00", 4) != 0) return;  // no extended header: an older exporter, and nothing to compare with
  const uint64_t header = little_endian(head + 12, 4), program = little_endian(head + 16, 8);
  const uint64_t base = little_endian(head + 24, 8), segments = header >= 32 ? little_endian(head + 32, 8) : 0;
  if (program > size || base > size || segments > size - base)
    throw Failure(kRefused, "load", "truncated",
                  "the file has " + std::to_string(size) + " bytes, its header promises " + std::to_string(program) +
                      " of program, and " + std::to_string(segments) + " of segments from " + std::to_string(base));
}

}  // namespace runner
