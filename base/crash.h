/* crash.h: numbered points at which a test may kill the process, to prove that the next start puts
 * things right. HAWSER_CRASH=create:3 kills it with SIGKILL at the third crash_point("create");
 * HAWSER_HOLD=create:3:PATH makes PATH there instead, and holds the fiber up until PATH is gone.
 * HAWSER_CRASH=@FILE: the same words are FILE's, which may come later: the count begins when it is seen.
 * Threads: any; those of an area that is held are fibers. Costs a pointer test where no variable is set. */
#pragma once

void crash_point(const char *area);
