// Asked by LeakSanitizer: LibTorch's zip reader loses 152 bytes where a file is no archive.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:mz_zip_reader_init\n"; }

// Asked by ThreadSanitizer, which does not see how LibTorch and OpenMP, built without it, keep
// their threads apart.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libgomp\n"
         "called_from_lib:libtorch_cpu.so\n"
         "race:libgomp\n"
         "race:libtorch_cpu.so\n"
         "race:libc10.so\n";
}
