/* What a failed run of a program says. */
#ifndef FLAMBEAU_PROGRAM_CHECKS_H
#define FLAMBEAU_PROGRAM_CHECKS_H

#include "flambeau/program.h"

/* Sets the message for a run on `inputs` that failed at the word `failure`, and returns FB_KERNEL_FAILED. */
fb_status fb_program_explain(const fb_program *p, fb_input *inputs, int64_t failure);

#endif
