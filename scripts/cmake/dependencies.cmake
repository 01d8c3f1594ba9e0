# The libraries that lckv uses, each for its own field (docs/dependencies.md). Found through pkg-config, which also looks
# under CMAKE_PREFIX_PATH, so that a conda-forge prefix serves without root.
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson>=2.13)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)

# oneDNN ships a CMake package; Debian's is named dnnl.
if(LCKV_ONEDNN)
  find_package(dnnl CONFIG QUIET)
  if(NOT dnnl_FOUND)
    message(STATUS "oneDNN not found: matrix products in plain C (slow). Install libdnnl-dev or onednn-devel.")
  endif()
endif()
