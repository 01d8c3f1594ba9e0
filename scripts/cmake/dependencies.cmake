# The libraries that lckv uses, each for its own field (docs/dependencies.md). Found through pkg-config, which also looks
# under CMAKE_PREFIX_PATH, so that a conda-forge prefix serves without root.
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson>=2.13)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)

# oneDNN is looked for by hand: Debian has no pkg-config file for it, and its CMake package asks for OpenCL's headers,
# which Debian's package neither brings nor its C interface for CPUs needs.
set(dnnl_FOUND FALSE)
if(LCKV_ONEDNN)
  find_path(DNNL_INCLUDE_DIR dnnl.h)
  find_library(DNNL_LIBRARY dnnl)
  mark_as_advanced(DNNL_INCLUDE_DIR DNNL_LIBRARY)
  if(DNNL_INCLUDE_DIR AND DNNL_LIBRARY)
    set(dnnl_FOUND TRUE)
    add_library(DNNL::dnnl UNKNOWN IMPORTED)
    set_target_properties(DNNL::dnnl PROPERTIES IMPORTED_LOCATION ${DNNL_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES
                                                                                  ${DNNL_INCLUDE_DIR})
    message(STATUS "oneDNN: ${DNNL_LIBRARY}")
  else()
    message(STATUS "oneDNN not found: matrix products in plain C (slow). Install libdnnl-dev (conda-forge: onednn).")
  endif()
endif()
