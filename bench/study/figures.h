/* The figures of the study. */
#ifndef STUDY_FIGURES_H
#define STUDY_FIGURES_H

/* Draws loss.svg, loop_loss.svg, iterations.svg, training_iterations.svg and exact_iterations.svg, as far as there are
 * variants for them, from table.csv and iterations.csv, all in FOLDER. Returns 0, or an exit code after printing a
 * message. */
int study_figures(const char *folder);

#endif
