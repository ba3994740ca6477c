// For a processor that is said to have whatever csrc/cpu/dispatch.cpp asks for.
#pragma once

#define __builtin_cpu_supports(instructions) 1
