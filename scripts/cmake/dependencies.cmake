# The libraries that lckv uses, each for its own field (docs/dependencies.md). Found through pkg-config, which also looks
# under CMAKE_PREFIX_PATH, so that a conda-forge prefix serves without root.
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(Threads REQUIRED)
pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson>=2.13)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8>=10.40)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(archive REQUIRED IMPORTED_TARGET libarchive>=3.4)

# lckv fetch is built where libcurl is. 7.85 (CURLOPT_PROTOCOLS_STR) is older than what any system of docs/dependencies.md has.
pkg_check_modules(curl IMPORTED_TARGET libcurl>=7.85)
if(NOT curl_FOUND)
  message(STATUS "libcurl not found: lckv fetch will say so. Install libcurl4-openssl-dev (conda-forge: libcurl).")
endif()

# lckv chat edits lines where libedit is.
pkg_check_modules(edit IMPORTED_TARGET libedit)
if(NOT edit_FOUND)
  message(STATUS "libedit not found: lckv chat reads plain lines. Install libedit-dev (conda-forge: libedit).")
endif()

# lckv serve is built where libmicrohttpd is.
pkg_check_modules(microhttpd IMPORTED_TARGET libmicrohttpd>=0.9.75)
if(NOT microhttpd_FOUND)
  message(STATUS "libmicrohttpd not found: lckv serve will say so. Install libmicrohttpd-dev (conda-forge: libmicrohttpd).")
endif()

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

# CUDA: the toolkit's compiler, runtime (linked into the library) and cuBLASLt. Code is made for compute capability 8.0 and
# 9.0, and as PTX for what comes after; -DCMAKE_CUDA_ARCHITECTURES says otherwise.
set(cuda_FOUND FALSE)
if(NOT LCKV_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  find_package(CUDAToolkit QUIET)
  if(CMAKE_CUDA_COMPILER AND TARGET CUDA::cudart_static AND TARGET CUDA::cublasLt)
    set(cuda_FOUND TRUE)
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "compute capabilities")
    enable_language(CUDA)
    message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER}, for ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(LCKV_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LCKV_CUDA=ON: no CUDA toolkit with nvcc and cuBLASLt was found")
  else()
    message(STATUS "CUDA toolkit not found: CPUs alone")
  endif()
endif()

# MPI (Open MPI): training by several processes.
set(LCKV_MPI_LIBRARY "")
set(LCKV_MPI_SOURCE "")
if(NOT LCKV_MPI STREQUAL "OFF")
  find_package(MPI QUIET COMPONENTS C)
  if(MPI_C_FOUND)
    set(LCKV_MPI_LIBRARY MPI::MPI_C)
    set(LCKV_MPI_SOURCE ${CMAKE_SOURCE_DIR}/src/collectives/mpi/mpi.c)
    message(STATUS "MPI: ${MPI_C_LIBRARIES}")
  elseif(LCKV_MPI STREQUAL "ON")
    message(FATAL_ERROR "LCKV_MPI=ON: no MPI was found")
  else()
    message(STATUS "MPI not found: training by one process. Install libopenmpi-dev (conda-forge: openmpi).")
  endif()
endif()
