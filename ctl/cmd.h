/* cmd.h: what the rows (rows.h) run. Each does one command from its arguments to its last line
 * of output; false with the error that main() prints.
 * Threads: the one thread of the program. */
#pragma once
#include "ctl/command.h"
#include "ctl/json.h"
#include "ctl/rest.h"

/* cmd_instance.c */
bool cmd_instance_launch(Ctl *ctl, GError **error);
bool cmd_instance_init(Ctl *ctl, GError **error);
bool cmd_instance_start(Ctl *ctl, GError **error);
bool cmd_instance_stop(Ctl *ctl, GError **error);
bool cmd_instance_restart(Ctl *ctl, GError **error);
bool cmd_instance_pause(Ctl *ctl, GError **error);
bool cmd_instance_resume(Ctl *ctl, GError **error);
bool cmd_instance_delete(Ctl *ctl, GError **error);
bool cmd_instance_rename(Ctl *ctl, GError **error);
bool cmd_instance_snapshot(Ctl *ctl, GError **error);
bool cmd_instance_restore(Ctl *ctl, GError **error);
/* "/1.0/instances/c1" or ".../snapshots/s0" of "c1" or "c1/s0"; caller frees. */
char *cmd_instance_path(const char *name);
/* cmd_list.c, cmd_info.c */
bool cmd_list_instances(Ctl *ctl, GError **error);
bool cmd_info_show(Ctl *ctl, GError **error);
/* cmd_exec.c */
bool cmd_exec_run(Ctl *ctl, GError **error);
bool cmd_exec_shell(Ctl *ctl, GError **error);
bool cmd_exec_console(Ctl *ctl, GError **error);
bool cmd_exec_attach_console(Ctl *ctl, Rest *rest, const char *name, GError **error);
/* cmd_vga.c */
bool cmd_vga(Ctl *ctl, Rest *rest, const char *name, GError **error);
/* The status that the program ends with when a command succeeded: that of 'exec'. */
int cmd_exec_status(void);
/* cmd_copy.c */
bool cmd_copy_instance(Ctl *ctl, GError **error);
bool cmd_copy_move(Ctl *ctl, GError **error);
/* What both sides of a copy between servers are asked for; --mode says who dials whom. */
typedef struct {
    Rest *from, *into; /* borrow */
    char *path;        /* where the source migrates from */
    json_t *migrate;   /* body for the source; borrows */
    json_t *body;      /* body for the target, with its "source"; borrows */
    const char *into_path;
} CmdTransfer;
bool cmd_copy_transfer(Ctl *ctl, CmdTransfer *t, GError **error);
/* The https address that another server can reach this one at; caller frees. */
char *cmd_copy_address(Rest *rest, GError **error);
/* The server's own certificate in PEM; caller frees. */
char *cmd_copy_certificate(Rest *rest, GError **error);
/* cmd_backup.c */
bool cmd_backup_export(Ctl *ctl, GError **error);
bool cmd_backup_import(Ctl *ctl, GError **error);
bool cmd_backup_publish(Ctl *ctl, GError **error);
bool cmd_backup_export_volume(Ctl *ctl, GError **error);
bool cmd_backup_import_volume(Ctl *ctl, GError **error);
/* Downloads 'path' into the file 'target', which is complete or not there. */
bool cmd_backup_download(Ctl *ctl, Rest *rest, const char *path, const char *target,
                         const char *label, GError **error);
/* cmd_config.c */
bool cmd_config_get(Ctl *ctl, GError **error);
bool cmd_config_set(Ctl *ctl, GError **error);
bool cmd_config_unset(Ctl *ctl, GError **error);
bool cmd_config_show(Ctl *ctl, GError **error);
bool cmd_config_edit(Ctl *ctl, GError **error);
bool cmd_config_metadata_show(Ctl *ctl, GError **error);
bool cmd_config_metadata_edit(Ctl *ctl, GError **error);
bool cmd_config_template_list(Ctl *ctl, GError **error);
bool cmd_config_template_show(Ctl *ctl, GError **error);
bool cmd_config_template_create(Ctl *ctl, GError **error);
bool cmd_config_template_edit(Ctl *ctl, GError **error);
bool cmd_config_template_delete(Ctl *ctl, GError **error);
/* cmd_device.c: of instances and of profiles; the row's entity tells which */
bool cmd_device_add(Ctl *ctl, GError **error);
bool cmd_device_get(Ctl *ctl, GError **error);
bool cmd_device_set(Ctl *ctl, GError **error);
bool cmd_device_unset(Ctl *ctl, GError **error);
bool cmd_device_list(Ctl *ctl, GError **error);
bool cmd_device_show(Ctl *ctl, GError **error);
bool cmd_device_remove(Ctl *ctl, GError **error);
bool cmd_device_override(Ctl *ctl, GError **error);
/* Adds, or takes away when 'device' is NULL, a device of an instance or profile at 'path'. */
bool cmd_device_put(Ctl *ctl, Rest *rest, const char *path, const char *name, json_t *device,
                    GError **error);
/* cmd_trust.c */
bool cmd_trust_add(Ctl *ctl, GError **error);
bool cmd_trust_list(Ctl *ctl, GError **error);
bool cmd_trust_remove(Ctl *ctl, GError **error);
bool cmd_trust_list_tokens(Ctl *ctl, GError **error);
bool cmd_trust_revoke_token(Ctl *ctl, GError **error);
/* cmd_profile.c */
bool cmd_profile_add(Ctl *ctl, GError **error);
bool cmd_profile_remove(Ctl *ctl, GError **error);
bool cmd_profile_assign(Ctl *ctl, GError **error);
bool cmd_profile_copy(Ctl *ctl, GError **error);
bool cmd_profile_create(Ctl *ctl, GError **error);
/* cmd_project.c */
bool cmd_project_switch(Ctl *ctl, GError **error);
bool cmd_project_list(Ctl *ctl, GError **error);
bool cmd_project_info(Ctl *ctl, GError **error);
/* cmd_network.c */
bool cmd_network_attach(Ctl *ctl, GError **error);
bool cmd_network_attach_profile(Ctl *ctl, GError **error);
bool cmd_network_detach(Ctl *ctl, GError **error);
bool cmd_network_detach_profile(Ctl *ctl, GError **error);
bool cmd_network_info(Ctl *ctl, GError **error);
bool cmd_network_leases(Ctl *ctl, GError **error);
bool cmd_network_forward_port_add(Ctl *ctl, GError **error);
bool cmd_network_forward_port_remove(Ctl *ctl, GError **error);
bool cmd_network_balancer_backend_add(Ctl *ctl, GError **error);
bool cmd_network_balancer_backend_remove(Ctl *ctl, GError **error);
bool cmd_network_balancer_port_add(Ctl *ctl, GError **error);
bool cmd_network_balancer_port_remove(Ctl *ctl, GError **error);
bool cmd_network_zone_entry_add(Ctl *ctl, GError **error);
bool cmd_network_zone_entry_remove(Ctl *ctl, GError **error);
bool cmd_network_acl_rule_add(Ctl *ctl, GError **error);
bool cmd_network_acl_rule_remove(Ctl *ctl, GError **error);
bool cmd_network_acl_log(Ctl *ctl, GError **error);
bool cmd_network_peer_create(Ctl *ctl, GError **error);
/* cmd_storage.c */
bool cmd_storage_create(Ctl *ctl, GError **error);
bool cmd_storage_info(Ctl *ctl, GError **error);
bool cmd_storage_show(Ctl *ctl, GError **error);
/* cmd_volume.c */
bool cmd_volume_list(Ctl *ctl, GError **error);
bool cmd_volume_show(Ctl *ctl, GError **error);
bool cmd_volume_get(Ctl *ctl, GError **error);
bool cmd_volume_set(Ctl *ctl, GError **error);
bool cmd_volume_unset(Ctl *ctl, GError **error);
bool cmd_volume_edit(Ctl *ctl, GError **error);
bool cmd_volume_info(Ctl *ctl, GError **error);
bool cmd_volume_create(Ctl *ctl, GError **error);
bool cmd_volume_delete(Ctl *ctl, GError **error);
bool cmd_volume_rename(Ctl *ctl, GError **error);
bool cmd_volume_snapshot(Ctl *ctl, GError **error);
bool cmd_volume_restore(Ctl *ctl, GError **error);
bool cmd_volume_copy(Ctl *ctl, GError **error);
bool cmd_volume_move(Ctl *ctl, GError **error);
bool cmd_volume_attach(Ctl *ctl, GError **error);
bool cmd_volume_attach_profile(Ctl *ctl, GError **error);
bool cmd_volume_detach(Ctl *ctl, GError **error);
bool cmd_volume_detach_profile(Ctl *ctl, GError **error);
/* cmd_image.c */
bool cmd_image_list(Ctl *ctl, GError **error);
bool cmd_image_info(Ctl *ctl, GError **error);
bool cmd_image_show(Ctl *ctl, GError **error);
bool cmd_image_edit(Ctl *ctl, GError **error);
bool cmd_image_delete(Ctl *ctl, GError **error);
bool cmd_image_refresh(Ctl *ctl, GError **error);
bool cmd_image_get_property(Ctl *ctl, GError **error);
bool cmd_image_set_property(Ctl *ctl, GError **error);
bool cmd_image_unset_property(Ctl *ctl, GError **error);
bool cmd_image_alias_list(Ctl *ctl, GError **error);
bool cmd_image_alias_create(Ctl *ctl, GError **error);
bool cmd_image_alias_delete(Ctl *ctl, GError **error);
bool cmd_image_alias_rename(Ctl *ctl, GError **error);
/* The "source" that fetches the image of an argument into 'into'; a new reference. */
json_t *cmd_image_source(Ctl *ctl, Rest *into, const char *arg, GError **error);
/* The fingerprint of an alias or of a prefix; caller frees. */
char *cmd_image_fingerprint(Rest *rest, const char *name, GError **error);
/* The image of an argument as REST shows it, of any kind of server; a new reference. */
json_t *cmd_image_load(Ctl *ctl, const char *arg, GError **error);
/* cmd_imagecopy.c */
bool cmd_imagecopy_run(Ctl *ctl, GError **error);
/* cmd_transfer.c */
/* Carries an image from one server to another through a file of ours. */
bool cmd_transfer_relay(Ctl *ctl, Rest *from, const char *fingerprint, Rest *into,
                        char *const *aliases, GError **error);
bool cmd_transfer_import(Ctl *ctl, GError **error);
bool cmd_transfer_export(Ctl *ctl, GError **error);
bool cmd_transfer_build(Ctl *ctl, GError **error);
/* cmd_file.c */
bool cmd_file_pull(Ctl *ctl, GError **error);
bool cmd_file_push(Ctl *ctl, GError **error);
bool cmd_file_edit(Ctl *ctl, GError **error);
bool cmd_file_delete(Ctl *ctl, GError **error);
bool cmd_file_mount(Ctl *ctl, GError **error);
/* cmd_ovn.c */
bool cmd_ovn_info(Ctl *ctl, GError **error);
bool cmd_ovn_diff(Ctl *ctl, GError **error);
bool cmd_ovn_reconcile(Ctl *ctl, GError **error);

/* cmd_dataplane.c */
bool cmd_dataplane_flows(Ctl *ctl, GError **error);
bool cmd_dataplane_stats(Ctl *ctl, GError **error);
bool cmd_dataplane_trace(Ctl *ctl, GError **error);
bool cmd_dataplane_on(Ctl *ctl, GError **error);
bool cmd_dataplane_off(Ctl *ctl, GError **error);

/* cmd_hw.c */
bool cmd_hw_list(Ctl *ctl, GError **error);
bool cmd_hw_show(Ctl *ctl, GError **error);
bool cmd_hw_doctor(Ctl *ctl, GError **error);
bool cmd_hw_prepare(Ctl *ctl, GError **error);
/* cmd_remote.c */
bool cmd_remote_add(Ctl *ctl, GError **error);
bool cmd_remote_list(Ctl *ctl, GError **error);
bool cmd_remote_remove(Ctl *ctl, GError **error);
bool cmd_remote_rename(Ctl *ctl, GError **error);
bool cmd_remote_switch(Ctl *ctl, GError **error);
bool cmd_remote_get_default(Ctl *ctl, GError **error);
bool cmd_remote_set_url(Ctl *ctl, GError **error);
bool cmd_remote_alias_add(Ctl *ctl, GError **error);
bool cmd_remote_alias_list(Ctl *ctl, GError **error);
bool cmd_remote_alias_remove(Ctl *ctl, GError **error);
bool cmd_remote_alias_rename(Ctl *ctl, GError **error);
/* cmd_server.c */
bool cmd_server_monitor(Ctl *ctl, GError **error);
bool cmd_server_query(Ctl *ctl, GError **error);
bool cmd_server_version(Ctl *ctl, GError **error);
bool cmd_bench_run(Ctl *ctl, GError **error);
bool cmd_server_waitready(Ctl *ctl, GError **error);
bool cmd_server_shutdown(Ctl *ctl, GError **error);
bool cmd_recover(Ctl *ctl, GError **error);
bool cmd_server_operation_list(Ctl *ctl, GError **error);
bool cmd_server_warning_list(Ctl *ctl, GError **error);
bool cmd_server_warning_delete(Ctl *ctl, GError **error);
bool cmd_server_warning_ack(Ctl *ctl, GError **error);
/* cmd_init.c */
bool cmd_init_run(Ctl *ctl, GError **error);
/* complete.c, manual.c */
bool complete_run(Ctl *ctl, GError **error);
bool complete_script(Ctl *ctl, GError **error);
bool manual_run(Ctl *ctl, GError **error);
