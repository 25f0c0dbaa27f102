# What the suite reads from LXD's private database, and therefore cannot ask of another implementation.
# The tables that must be empty at the end are ours, where they have a counterpart.
s|check_empty_table "${daemon_dir}/database/global/db.bin" "storage_pools"|check_empty_table "${daemon_dir}/database/hawser.db" "pools"|
s|check_empty_table "${daemon_dir}/database/global/db.bin" "storage_volumes"|check_empty_table "${daemon_dir}/database/hawser.db" "volumes"|
s|check_empty_table "${daemon_dir}/database/global/db.bin" "images_aliases"|check_empty_table "${daemon_dir}/database/hawser.db" "image_aliases"|
s|check_empty_table "${daemon_dir}/database/global/db.bin" "instances_profiles"|check_empty_table "${daemon_dir}/database/hawser.db" "instance_profiles"|
s|check_empty_table "${daemon_dir}/database/global/db.bin" "\(instances\|images\|networks\|profiles\)"|check_empty_table "${daemon_dir}/database/hawser.db" "\1"|
/check_empty_table "${daemon_dir}\/database\/global\/db.bin"/d
# Queries that `lxd sql` would answer, against the tables that hold the same here.
s|LXD_DIR="$LXD2_DIR" lxd sql global "UPDATE images SET last_use_date='$(date --rfc-3339=seconds -u -d "2 days ago")' WHERE fingerprint='${fp}'" . grep -q "Rows affected: 1"|sqlite3 "$LXD2_DIR/database/hawser.db" "UPDATE images SET last_used_at=$(date +%s -d '2 days ago')000000 WHERE fingerprint='${fp}'"|
s|lxd sql global "UPDATE instances_devices_config SET value='tcp:localhost:4321' WHERE value='tcp:127.0.0.1:4321';"|sqlite3 "$LXD_DIR/database/hawser.db" "UPDATE instances SET devices=replace(devices, 'tcp:127.0.0.1:4321', 'tcp:localhost:4321')"|
s|lxd sql global 'select name from storage_volumes'|sqlite3 "$LXD_DIR/database/hawser.db" "SELECT name FROM volumes"|
s|image_id=$(lxd sql global 'select image_id from images_aliases where name="testimage"'.*|image_id=$(sqlite3 "$LXD_DIR/database/hawser.db" "SELECT image_id FROM image_aliases WHERE name='testimage'")|
# Pools of drivers that aren't here, where any other would do.
s|lxc storage create "${pool1}" lvm|lxc storage create "${pool1}" btrfs|
# `lxd activateifneeded` reads LXD's database files itself.
/lxd activateifneeded/d
# Candid (macaroons) is no way to authenticate here.
/config \(un\)\?set candid/d
/auth_methods | grep candid$/d
# A warning of an entity is told to the server by the row's number: any third warning serves.
s|\\\\\\"type_code\\\\\\": 0, \\\\\\"message\\\\\\": \\\\\\"global warning\\\\\\", \\\\\\"entity_type_code\\\\\\": 1, \\\\\\"entity_id\\\\\\": ${image_id}|\\\\\\"type_code\\\\\\": 1, \\\\\\"message\\\\\\": \\\\\\"global warning\\\\\\"|
# BGP's own test hook.
/internal\/testing\/bgp/d
# Containers that run don't move here, whether CRIU is installed or not: the rest of test_migration is about that.
s/if ! command -v criu >\/dev\/null 2>&1; then/if true; then/
