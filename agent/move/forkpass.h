/* forkpass.h: a helper process, 'hawserd forkpass …': rsync's side of a copy between servers (pour.c). */
#pragma once

int forkpass_main(int argc, char **argv);
