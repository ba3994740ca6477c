// What g++'s standard library asks of glibc and older ones have not, for modules that CMake builds with LAPCORE_GLIBC.

// Whether there is but one thread, from 2.32 on: shared counts are not atomic then. That there may be more is always true.
extern "C" char __libc_single_threaded;
char __libc_single_threaded = false;
