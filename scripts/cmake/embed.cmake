# embed(OUTPUT HEADER TYPE FILE...): creates a C file with the content of files, as
#     const TYPE TYPEs[] = {{"name without ending", bytes, count}, ...}; const int TYPE_count;
# HEADER declares them. The C file is created again if one of the files changes.
function(embed OUTPUT HEADER TYPE)
  set(ARRAYS "")
  set(ROWS "")
  set(COUNT 0)
  foreach(FILE ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${FILE})
    get_filename_component(NAME ${FILE} NAME_WLE)
    file(READ ${FILE} BYTES HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," BYTES "${BYTES}")
    string(APPEND ARRAYS "static const unsigned char file_${COUNT}[] = {${BYTES}};\n")
    string(APPEND ROWS "    {\"${NAME}\", file_${COUNT}, sizeof file_${COUNT}},\n")
    math(EXPR COUNT "${COUNT} + 1")
  endforeach()
  file(CONFIGURE OUTPUT ${OUTPUT} CONTENT
       "#include \"${HEADER}\"\n\n${ARRAYS}\nconst ${TYPE} ${TYPE}s[] = {\n${ROWS}};\nconst int ${TYPE}_count = ${COUNT};\n"
       @ONLY)
endfunction()
