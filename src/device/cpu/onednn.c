/* Matrix products by oneDNN, over the plain ones. */
#include "device/cpu/cpu.h"
