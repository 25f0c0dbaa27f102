#!/bin/bash
# containers: create, start, stop, delete and look into a container, as the lxc client sees it.
. "$(dirname "$0")/lib.sh"
e2e_begin
daemon_start
e2e_defaults
claim 'a container launches' lxc launch busybox c1
shows 'it is listed as running' '^c1,RUNNING' lxc list -f csv -c ns
same 'exec gives the exit status' 3 status_of lxc exec c1 -- sh -c 'exit 3'
refuse 'a second one of that name is refused' 'already exists' lxc init busybox c1
claim 'it gets an address' wait_for 15 sh -c 'lxc list -f csv -c 4 c1 | grep -q 10.94.7.'
claim 'a clean stop' lxc stop c1
claim 'it is deleted' lxc delete c1
e2e_end
