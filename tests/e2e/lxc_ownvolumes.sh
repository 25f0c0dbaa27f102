#!/bin/bash
# lxc_ownvolumes: storage.backups_volume and storage.images_volume: where the server keeps its backups and images; what is
# refused, what a restart and a crash in the middle leave, and the way back. As the unmodified lxc client sees it.
. "$(dirname "$0")/lib.sh"
e2e_begin
daemon_start
e2e_defaults
T=$E2E_DIR
must lxc init busybox foo
must lxc query --wait /1.0/instances/foo/backups -X POST -d '{"name":"b0","expires_at":"2100-01-01T10:00:00-05:00"}'
listing() { (cd "$LXD_DIR/$1/" && find . -type f | sort); }
backups=$(listing backups) images=$(listing images)
must lxc storage volume create default backups
must lxc storage volume create default images
refuse 'a volume needs a pool' 'must be <pool>/<volume>' lxc config set storage.backups_volume foo
refuse 'a pool that is there' 'foo' lxc config set storage.backups_volume foo/bar
refuse 'and has it' 'bar' lxc config set storage.backups_volume default/bar
must lxc storage volume snapshot default backups
refuse 'one with snapshots' 'cannot have snapshots' lxc config set storage.backups_volume default/backups
must lxc storage volume delete default backups/snap0
must lxc storage volume create default taken
echo one >"$LXD_DIR/storage-pools/default/custom/default_taken/file"
refuse 'one with something on it' "isn't empty" lxc config set storage.backups_volume default/taken
same 'what was refused is not set' '' lxc config get storage.backups_volume

claim 'backups move to a volume' lxc config set storage.backups_volume default/backups
claim 'images to another' lxc config set storage.images_volume default/images
refuse 'not both to one' 'another purpose' lxc config set storage.images_volume default/backups
same 'all backups are there' "$backups" listing backups
same 'all images' "$images" listing images
claim 'on the volume' test -n "$(find "$LXD_DIR/storage-pools/default/custom/default_backups/" -name b0)"
same 'nothing is kept twice' '' sh -c "ls -d $LXD_DIR/*.next 2>/dev/null"
refuse 'the volume stays' 'in use' lxc storage volume delete default backups
refuse 'under its name' 'cannot be renamed' lxc storage volume rename default backups other
refuse 'without snapshots' 'cannot have snapshots' lxc storage volume snapshot default backups
claim 'an image is made on it' lxc publish foo --alias fooimage
claim 'and used' lxc init fooimage foo2
claim 'a backup is exported from it' lxc export foo2 "$T/foo2.tar.gz"
must lxc delete foo2
must lxc image delete fooimage
must daemon_restart
same 'after a restart all is there' "$backups" listing backups
refuse 'and the volume in use' 'in use' lxc storage volume delete default images
# A crash between the row and the move: the name is still a directory, the volume has half a copy.
daemon_kill
cp -a "$LXD_DIR/storage-pools/default/custom/default_backups" "$T/copy"
rm "$LXD_DIR/backups" && cp -a "$T/copy" "$LXD_DIR/backups"
rm -rf "$LXD_DIR/storage-pools/default/custom/default_backups/instances"
daemon_start
same 'a move that was cut short is finished' "$backups" listing backups
claim 'to the volume' test -L "$LXD_DIR/backups"
claim 'back to the state directory' lxc config unset storage.backups_volume
claim 'the images, too' lxc config unset storage.images_volume
claim 'which is a directory again' test -d "$LXD_DIR/backups" -a ! -L "$LXD_DIR/backups"
same 'with all backups' "$backups" listing backups
same 'and images' "$images" listing images
same 'the volume is empty' '' ls -A "$LXD_DIR/storage-pools/default/custom/default_backups"
claim 'and can go' lxc storage volume delete default backups
claim 'like the other' lxc storage volume delete default images
e2e_end
