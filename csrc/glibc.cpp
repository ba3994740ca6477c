// What g++'s standard library asks of glibc and older ones have not, for modules that CMake builds with LAPCORE_GLIBC.

// Whether there is but one thread, from 2.32 on: shared counts are then not atomic. False is right for any program.
extern "C" char __libc_single_threaded;
char __libc_single_threaded = false;
