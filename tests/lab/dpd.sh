# dpd.sh: what tests/e2e/dpd.sh leans on, for scripts of this folder; source it after lib.sh.
E2E_DIR=/tmp/lab
mkdir -p $E2E_DIR
dpd_backend=kernel
exec 3>&1 # a command may have its own output elsewhere when it bails out
e2e_bail() { { echo "Bail out! $*"; tail -n 20 $E2E_DIR/dpd.log | sed 's/^/# /'; } >&3; exit 1; }
e2e_skip_all() { echo "1..0 # SKIP $*"; exit 77; }
must() { "$@" >>$E2E_DIR/log 2>&1 || e2e_bail "$*"; }
wait_for() {
    local until=$((SECONDS + $1)); shift
    until "$@" >>$E2E_DIR/log 2>&1; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.2
    done
}
. tests/e2e/dpd.sh
