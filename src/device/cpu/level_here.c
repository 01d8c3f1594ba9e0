/* Finds the CPU feature level of this processor. */
#include "device/cpu/cpu.h"

#ifdef CPU_X86_LEVELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux saves the tiles of AMX for processes that ask for it. */
static bool has_amx(void) {
#ifdef SYS_arch_prctl
    enum { TILE = 1 << 24, BF16 = 1 << 22, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    unsigned a, b, c, d;
    bool there = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & TILE) && (d & BF16);
    return there && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}
#endif

/* The psABI's x86-64-v3 and -v4. __builtin_cpu_supports() also checks that the operating system saves the registers.
 * Features that some compiler cannot query by name are read from cpuid. */
enum cpu_level cpu_level_here(void) {
#ifdef CPU_X86_LEVELS
    unsigned a, b, c, d;
    __builtin_cpu_init();
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
              __builtin_cpu_supports("bmi2");
    v3 = v3 && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) && (c & bit_MOVBE);
    v3 = v3 && __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LZCNT);
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl");
    bool bf16 = v4 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
    if (bf16) return has_amx() ? CPU_AMX : CPU_AVX512_BF16;
    return v4 ? CPU_AVX512 : v3 ? CPU_AVX2 : CPU_BASE;
#else
    return CPU_BASE;
#endif
}
