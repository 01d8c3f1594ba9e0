/* The figures of the study. */
#ifndef STUDY_FIGURES_H
#define STUDY_FIGURES_H

/* Draws loss.svg, iterations.svg and training_iterations.svg from table.csv and iterations.csv, all in FOLDER. Returns
 * 0, or an exit code after printing a message. */
int study_figures(const char *folder);

#endif
