/* Adds an adapter to weights without merging it: y = x W^T + scale (x A^T) B^T, for weights in any format. */
#ifndef IO_ADAPTER_ATTACH_H
#define IO_ADAPTER_ATTACH_H

#include "io/adapter/adapter_file.h"

/* Creates the adapter of a file that adapter_file_check() has accepted, with its values. `base` must outlive it. */
int adapter_attach(const adapter_file *f, params *base, adapter **out);

#endif
