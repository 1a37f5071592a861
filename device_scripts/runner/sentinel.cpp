// The kernel: products of two 48 x 48 matrices of float (27 KiB in all, so L1 holds them) by hand in vectors of 128
// bits, which SSE2 and NEON have in every CPU of their architectures. So all compilers and flags make much the same of
// it, and one compiler makes the same of it in the binaries of all runtimes: this file sees no header of theirs.
#include "sentinel.h"

#include "clocks.h"
#include "jsonl.h"

namespace runner {
namespace {

typedef float Vec __attribute__((vector_size(16), aligned(16), may_alias));
constexpr int kSize = 48, kLanes = 4;
constexpr int kRounds = 20, kLeastRounds = 3, kProducts = 800;  // a round is 88 million multiplications and additions
constexpr uint64_t kMost_ns = 120'000'000;

alignas(64) float left[kSize * kSize], right[kSize * kSize], product[kSize * kSize];

}  // namespace

// c = a b, in blocks of 4 rows and 8 columns. Of C linkage and aligned, so that it is the same code at the same place
// of a cache line in every binary.
extern "C" __attribute__((noinline, aligned(64))) void runner_sentinel_product(const float* a, const float* b, float* c) {
  for (int i = 0; i < kSize; i += 4)
    for (int j = 0; j < kSize; j += 2 * kLanes) {
      Vec s00{}, s01{}, s10{}, s11{}, s20{}, s21{}, s30{}, s31{};  // by name: no compiler leaves them in memory
      for (int k = 0; k < kSize; k++) {
        const Vec* row = reinterpret_cast<const Vec*>(b + k * kSize + j);
        const float* column = a + i * kSize + k;
        const Vec left4 = row[0], right4 = row[1];
        s00 += left4 * column[0 * kSize], s01 += right4 * column[0 * kSize];
        s10 += left4 * column[1 * kSize], s11 += right4 * column[1 * kSize];
        s20 += left4 * column[2 * kSize], s21 += right4 * column[2 * kSize];
        s30 += left4 * column[3 * kSize], s31 += right4 * column[3 * kSize];
      }
      Vec* out = reinterpret_cast<Vec*>(c + i * kSize + j);
      constexpr int kNext = kSize / kLanes;
      out[0 * kNext] = s00, out[0 * kNext + 1] = s01;
      out[1 * kNext] = s10, out[1 * kNext + 1] = s11;
      out[2 * kNext] = s20, out[2 * kNext + 1] = s21;
      out[3 * kNext] = s30, out[3 * kNext + 1] = s31;
    }
}

std::vector<uint64_t> sentinel_rounds() {
  for (int i = 0; i < kSize * kSize; i++) {
    left[i] = 1.0f + static_cast<float>(i % 7) / 8;
    right[i] = 1.0f - static_cast<float>(i % 5) / 8;
  }
  std::vector<uint64_t> rounds;
  rounds.reserve(kRounds);
  const uint64_t begin = raw_ns();
  for (uint64_t before = begin; rounds.size() < kRounds;) {
    for (int i = 0; i < kProducts; i++) {
      runner_sentinel_product(left, right, product);
      asm volatile("" : : "r"(product) : "memory");  // each product is used, says this to the compiler
    }
    const uint64_t after = raw_ns();
    rounds.push_back(after - before);
    if (after - begin >= kMost_ns && rounds.size() >= kLeastRounds) break;
    before = after;
  }
  return rounds;
}

void write_sentinel(const char* when, const std::vector<uint64_t>& rounds) {
  Line("sentinel").text("when", when).numbers("samples_ns", rounds.data(), rounds.size()).write();
}

}  // namespace runner
