/* The study's figures. */
#ifndef STUDY_FIGURES_H
#define STUDY_FIGURES_H

/* From FOLDER/table.csv and FOLDER/runs.csv: loss.svg, runs.svg and passes.svg beside them. 0, or an exit code after
 * the message. */
int study_figures(const char *folder);

#endif
