#!/bin/bash
# hawser_cli: the hawser command against the agent, as people and scripts use it: exit statuses, formats,
# terminals, progress, editing, files, images, remotes, completion, setting a server up.
# (The lxc_* suites hold for it too: run one with a wrapper named lxc that calls hawser.)
. "$(dirname "$0")/lib.sh"
need python3 jq
e2e_begin
daemon_start
export HAWSER_DIR=$LXD_DIR HAWSER_CONF=$HOME/.config/hawser
PATH=$HAWSER_BUILD/ctl:$PATH
pty=$E2E_LIB/onpty.py
work=$E2E_DIR/work
mkdir -p "$work"
cd "$work" || e2e_bail 'no working folder'

# ---- setting up ----
claim 'the server is ready' hawser waitready -t 30
claim 'init --auto makes pool, bridge and profile' hawser init --auto
shows 'the profile has both' 'network: hawserbr0' hawser profile show default
claim 'init --auto a second time changes nothing' hawser init --auto
same 'and there is still one bridge' 1 sh -c 'hawser network list -f json | jq "map(select(.managed)) | length"'
claim 'init --dump gives YAML' sh -c 'hawser init --dump >dump.yaml && grep -q "^storage_pools:" dump.yaml'
claim 'which init --preseed takes' sh -c 'hawser init --preseed <dump.yaml'
refuse 'a preseed with an unknown section is refused' "unknown section 'nonsense'" \
    sh -c 'echo "nonsense: 1" | hawser init --preseed'
claim 'a preseed adds' sh -c 'printf "profiles:\n- name: web\n  config:\n    user.n: 5\n" | hawser init --preseed'
same 'as text what was a number' 5 hawser profile get web user.n
refuse 'init without anything says what it can do' '--auto, --preseed' hawser init

# ---- images ----
refuse 'what a builder says of itself is seen' 'containers only' hawser image build busybox --vm
refuse 'a distribution that nobody builds is named' "build-image-plan9" hawser image build plan9
if command -v busybox >/dev/null; then
    shows 'an image is built and imported' "Image 'busybox' built with fingerprint: [0-9a-f]{64}" hawser image build busybox
else
    must e2e_image busybox
fi
shows 'it is listed' '^busybox,' hawser image list -f csv
claim 'building again moves the alias' sh -c 'command -v busybox >/dev/null && hawser image build busybox || true'
claim 'it is exported' hawser image export busybox one
claim 'as one file' sh -c 'ls one.tar* | grep -q .'
refuse 'importing it again is refused' 'already exists' sh -c 'hawser image import one.tar*'
claim 'a property is set' hawser image set-property busybox flavour plain
same 'and read' plain hawser image get-property busybox flavour
shows 'and filters by it' '^busybox,' hawser image list -f csv flavour=plain
hides 'not by another' busybox hawser image list -f csv flavour=fancy
claim 'an alias is made' hawser image alias create second busybox
shows 'and listed' '^second,' hawser image alias list -f csv
claim 'and renamed' hawser image alias rename second third
claim 'and deleted' hawser image alias delete third
refuse 'an image that is not there' "image 'nosuch'.*not found.*hawser image list" hawser image info nosuch

# ---- life, statuses ----
claim 'launch' hawser launch busybox c1 -c user.app=shop
same 'list: the filter and the columns' 'c1,RUNNING,shop,default' \
    hawser list -f csv -c ns,user.app,devices:root.pool status=running u.app=shop
same 'list as JSON is the body' c1 sh -c 'hawser list -f json | jq -r ".[].name"'
shows 'list as YAML' '^  name: c1|^- .*name: c1' hawser list -f yaml
refuse 'an unknown column is named' "column 'Z'" hawser list -c nZ
same 'not found is status 4' 4 status_of hawser start nosuch
same 'wrong usage is status 2' 2 status_of hawser launch
same 'an unknown command too' 2 status_of hawser lanch
same 'no agent is status 8' 8 status_of env HAWSER_DIR=/nonexistent hawser list
refuse 'and one line says the next step' 'hawserd does not answer .is it running' env HAWSER_DIR=/nonexistent hawser list
same 'one line' 1 sh -c 'hawser start nosuch 2>&1 | wc -l'
same 'exists is status 5' 5 status_of hawser profile create web
shows 'info' '^Status: RUNNING' hawser info c1
claim 'pause' hawser pause c1
claim 'start lets it go on' hawser start c1
claim 'several at once' hawser init busybox c2
claim 'start --all' hawser start --all
same 'started the other' RUNNING hawser list -f csv -c s c2
refuse 'each failure is its own line' "nosuch1(.|\n)*" hawser stop -f nosuch1 nosuch2
same 'two of them' 2 sh -c 'hawser stop -f nosuch1 nosuch2 2>&1 | grep -c "stop .nosuch"'
refuse 'deleting a running one says how' '--force' hawser delete c2
claim 'delete --force' hawser delete --force c2
claim 'snapshot' hawser snapshot c1 s0
claim 'restore' hawser restore c1 s0
claim 'copy' hawser copy c1/s0 c3
claim 'rename' hawser rename c3 c4
claim 'move' hawser move c4 c5
claim 'delete several' hawser delete c5 c1/s0

# ---- exec ----
same 'exec gives the status of the command' 7 status_of hawser exec c1 -- sh -c 'exit 7'
same '127 for what is not there' 127 status_of hawser exec c1 -- nosuch
same 'stdin goes in, stdout comes out' hello sh -c 'echo hello | hawser exec c1 -- cat'
same 'stderr stays apart' '' sh -c 'hawser exec c1 -- sh -c "echo err >&2" 2>/dev/null'
same 'a megabyte each way' 1048576 sh -c 'head -c 1048576 /dev/zero | hawser exec c1 -- cat | wc -c'
same 'options of the command are its own' 'a -t b' hawser exec c1 echo a -t b
same 'a signal reaches it' 9 sh -c 'hawser exec c1 -- sh -c "trap \"exit 9\" TERM; while :; do sleep 0.1; done" & p=$!; sleep 2; kill -TERM $p; wait $p; echo $?'
claim 'a terminal, its size, and its change' $pty 100x30 \
    'expect:# ;send:stty size\r;expect:30 100;resize:70x20;wait:1;send:stty size\r;expect:20 70;send:exit\r' \
    hawser exec c1 sh
same 'its status' 5 status_of $pty 'expect:# ;send:exit 5\r' hawser exec c1 sh
claim 'Ctrl-C is a character' $pty \
    'expect:# ;send:sleep 100\r;wait:0.5;send:\x03;wait:0.5;send:echo al""ive\r;expect:alive;send:exit\r' \
    hawser exec c1 sh
claim 'the console, and out of it' $pty 'expect:Ctrl-A;send:\r;wait:1;send:\x01q' hawser console c1
shows 'progress is drawn for people' 'Creating c6' $pty '' hawser launch busybox c6
hides 'not with --quiet' 'Stopping' $pty '' hawser stop -q -f c6
hides 'nor in a pipe' . sh -c 'hawser start c6 2>&1'
must hawser delete -f c6

# ---- configuration ----
claim 'set' hawser config set c1 user.a=1 user.b='two words'
same 'get' 'two words' hawser config get c1 user.b
claim 'set from stdin' sh -c 'printf "line 1\nline 2\n" | hawser config set c1 user.text=-'
same 'keeps its lines' $'line 1\nline 2' hawser config get c1 user.text
claim 'unset' hawser config unset c1 user.a
same 'unset again is status 4' 4 status_of hawser config unset c1 user.a
claim 'edit from stdin' sh -c 'hawser config show c1 | sed "s/two words/three/" | hawser config edit c1'
same 'is kept' three hawser config get c1 user.b
cat >"$work/editor" <<'EDITOR'
#!/bin/sh
# The first time it makes a mistake, the second time it repairs it.
if grep -q '^#! ' "$1"; then sed -i '/^bad/d' "$1"; else sed -i 's/three/four/' "$1"; echo 'bad: [' >>"$1"; fi
EDITOR
chmod +x "$work/editor"
claim 'edit opens the editor again after a mistake' env EDITOR="$work/editor" \
    $pty 'expect:Edit again?;send:yes\r' hawser config edit c1
same 'and keeps what was typed' four hawser config get c1 user.b
claim 'a device' hawser config device add c1 data disk source=/tmp path=/mnt/data
shows 'is listed' '^data$' hawser config device list c1
claim 'and changed' hawser config device set c1 data readonly=true
same 'and read' true hawser config device get c1 data readonly
refuse "a profile's device says where it is" 'comes from a profile' hawser config device set c1 eth0 mtu=1400
claim 'and can be overridden' hawser config device override c1 eth0 hwaddr=00:16:3e:0c:11:01
claim 'and removed' hawser config device remove c1 data eth0
claim 'the server' hawser config set user.server=yes
same 'is read' yes hawser config get user.server
claim 'and unset' hawser config unset user.server
claim 'profiles' hawser profile add c1 web
same 'are added' 'default web' sh -c 'hawser list -f json c1 | jq -r ".[0].profiles | join(\" \")"'
claim 'and assigned' hawser profile assign c1 default
claim 'a project' hawser project create lab -c features.images=false
claim 'is switched to' hawser project switch lab
same 'and works alone' '' hawser list -f csv
claim 'and back' hawser project switch default
claim 'and deleted' hawser project delete lab

# ---- files ----
mkdir -p tree/sub && echo one >tree/one && echo two >tree/sub/two && ln -s one tree/link && chmod 640 tree/one
claim 'a file goes in' sh -c 'echo text | hawser file push - c1/root/f --mode 600'
same 'with its mode' 600 hawser exec c1 -- stat -c %a /root/f
same 'and comes out' text hawser file pull c1/root/f -
claim 'a tree goes in' hawser file push -r tree c1/srv/
claim 'and comes out' hawser file pull -r c1/srv/tree back
claim 'the same' diff -r --no-dereference tree back
claim 'modes too' test "$(stat -c %a back/one)" = 640
claim 'folders are made' hawser file push -p tree/one c1/a/b/c
claim 'a file is deleted' hawser file delete c1/a/b/c
refuse 'and gone' 'c1/a/b/c' hawser file pull c1/a/b/c -
claim 'a file is edited' sh -c 'echo other | hawser file edit c1/root/f'
same 'and changed' other hawser file pull c1/root/f -
refuse 'a folder needs --recursive' '--recursive' hawser file pull c1/etc .

# ---- networks, storage ----
claim 'a network' hawser network create clibr0 ipv4.address=10.94.88.1/24 ipv6.address=none
shows 'is listed' '^clibr0,bridge,YES,10.94.88.1/24' hawser network list -f csv
claim 'and set' hawser network set clibr0 ipv4.nat=true
same 'and read' true hawser network get clibr0 ipv4.nat
claim 'and attached' hawser network attach clibr0 c1 eth1
shows 'as a device' '^eth1$' hawser config device list c1
claim 'and detached' hawser network detach clibr0 c1
claim 'an ACL' hawser network acl create web
claim 'with a rule' hawser network acl rule add web ingress action=allow protocol=tcp destination_port=80
shows 'is shown' 'destination_port: "?80' hawser network acl show web
claim 'without the rule' hawser network acl rule remove web ingress protocol=tcp
claim 'a forward' hawser network forward create clibr0 10.94.99.1
claim 'with a port' hawser network forward port add clibr0 10.94.99.1 tcp 80 10.94.88.5
same 'is listed' '10.94.99.1,,,1' hawser network forward list clibr0 -f csv
claim 'all are deleted' sh -c 'hawser network forward delete clibr0 10.94.99.1 && hawser network acl delete web && hawser network delete clibr0'
claim 'a volume' hawser storage volume create default vol
claim 'is attached' hawser storage volume attach default vol c1 /mnt/vol
same 'and there' ok sh -c 'echo ok | hawser file push - c1/mnt/vol/x && hawser exec c1 cat /mnt/vol/x'
claim 'a snapshot of it' hawser storage volume snapshot default vol s0
claim 'a copy of it' hawser storage volume copy default/vol default/vol2
shows 'both are listed' '^custom,vol2,' hawser storage volume list default -f csv
claim 'it is detached' hawser storage volume detach default vol c1
claim 'and deleted' sh -c 'hawser storage volume delete default vol && hawser storage volume delete default vol2'

# ---- backups ----
claim 'an instance to publish' hawser launch busybox c7
refuse 'publishing a running one says how' '--force' hawser publish c7
shows 'publish --force' 'fingerprint: [0-9a-f]{64}' hawser publish c7 --force --alias mine os=Mine
same 'with its properties' Mine hawser image get-property mine os
same 'and the instance runs again' RUNNING hawser list -f csv -c s c7
must hawser delete -f c7
must hawser image delete mine
if hawser query /1.0 | jq -e '.api_extensions | index("container_backup")' >/dev/null; then
    claim 'an instance is exported' hawser export c1 c1.tar.gz
    claim 'as a whole file' tar -tzf c1.tar.gz
    claim 'nothing half is left' test ! -e c1.tar.gz.part
    claim 'and imported' hawser import c1.tar.gz c8
    claim 'and starts' hawser start c8
    must hawser delete -f c8
else
    skip 'backups' 'the agent has none'
fi

# ---- the rest ----
same 'query' c1 sh -c 'hawser query /1.0/instances/c1 | jq -r .name'
claim 'query that changes' hawser query -X PATCH -d '{"description":"seen"}' /1.0/instances/c1 --wait
same 'and did' seen hawser config get c1 description -p
shows 'monitor shows what happens' 'instance-updated' \
    sh -c 'timeout 6 hawser monitor --type lifecycle --pretty & for i in 1 2 3 4 5 6 7 8; do hawser config set c1 user.m=$i; sleep 0.5; done; wait; true'
claim 'an alias of commands' hawser alias add ll 'list -f csv -c n'
same 'works' c1 hawser ll
shows 'completion offers names' '^c1$' hawser __complete -- start c
shows 'and pools' '^default$' hawser __complete -- storage show ''
claim 'the bash script is bash' sh -c 'hawser completion bash | bash -n'
same 'and completes' c1 bash -c 'eval "$(hawser completion bash)"; COMP_WORDS=(hawser stop c); COMP_CWORD=2; _hawser 2>/dev/null; echo "${COMPREPLY[0]}"'
same 'a name is no pattern' 'default:*' bash -c 'eval "$(hawser completion bash)"; hawser() { echo "default:*"; }; COMP_WORDS=(hawser x); COMP_CWORD=1
    cd /etc && _hawser 2>/dev/null; echo "${COMPREPLY[0]}"'
if command -v fish >/dev/null; then
    same 'fish completes' c1 fish -c 'hawser completion fish | source; complete -C "hawser stop c"'
    same 'and offers files where nothing else goes' /etc/hostname fish -c 'hawser completion fish | source; complete -C "hawser image import /etc/hostn"'
else
    skip 'completion in fish' 'fish is not installed'
fi
claim 'the zsh script is zsh' sh -c 'hawser completion zsh >"$E2E_DIR/_hawser" && { ! command -v zsh || zsh -n "$E2E_DIR/_hawser"; }'
claim 'the manual page has no mistakes' sh -c 'hawser __manual | man --warnings -l - >/dev/null'
shows 'operations can be listed' . sh -c 'hawser operation list'
claim 'warnings too' hawser warning list

# ---- another server ----
daemon_start far
daemon_use main
export HAWSER_DIR=$LXD_DIR
far() { HAWSER_DIR=$E2E_DIR/far hawser "$@"; }
claim 'it listens' far config set core.https_address=127.0.0.1:18447
token=$(far config trust add --name cli 2>/dev/null)
claim 'it is added by a token' hawser remote add far "$token"
shows 'and answers' 'Server version' hawser version far:
shows 'and is listed' '^far,https://127.0.0.1:18447' hawser remote list -f csv
refuse 'a token is used once' . env HAWSER_CONF="$work/other" hawser remote add again "$token"
hides 'and leaves nothing' '^again' env HAWSER_CONF="$work/other" hawser remote list -f csv
claim 'commands go there' hawser storage create far:default dir
claim 'our server listens too' hawser config set core.https_address=127.0.0.1:18448
claim 'an image is copied there' hawser image copy busybox far: --alias there
claim 'and launched there' hawser launch far:there far:f1 -s default
same 'and runs' f1 hawser exec far:f1 hostname
claim 'it can be the default' hawser remote switch far
same 'then' f1 hawser list -f csv -c n
claim 'and not any more' hawser remote switch local
must hawser delete -f far:f1
claim 'it is forgotten' hawser remote remove far
same 'and not found' 4 status_of hawser list far:
must hawser image delete busybox
must hawser delete -f c1
e2e_end
