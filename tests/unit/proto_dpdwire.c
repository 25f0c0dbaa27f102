/* proto/dpdwire.c: W1 to W3, versions, descriptors and the checks of proto/portspec.c. */
#include "base/fd.h"
#include "base/fiber.h"
#include "proto/dpdwire.h"
#include "proto/portspec.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void
test_versions(void)
{
    g_assert_cmpuint(dpdwire_agree(1, 2, 1, 2), ==, 2);
    g_assert_cmpuint(dpdwire_agree(1, 2, 2, 3), ==, 2); /* the peer is one ahead */
    g_assert_cmpuint(dpdwire_agree(2, 3, 1, 2), ==, 2); /* and one behind */
    g_assert_cmpuint(dpdwire_agree(2, 3, 1, 1), ==, 0);
    g_assert_cmpuint(dpdwire_agree(1, 1, 2, 3), ==, 0);
    g_assert_cmpuint(dpdwire_agree(1, 1, 0, 0), ==, 0);
}

/* A frame with 'count' ports in it. */
static Dpd__Frame *
big_frame(guint count)
{
    Dpd__Frame *frame = g_new0(Dpd__Frame, 1);
    dpd__frame__init(frame);
    frame->id = 7;
    frame->body_case = DPD__FRAME__BODY_APPLY;
    frame->apply = g_new0(Dpd__Apply, 1);
    dpd__apply__init(frame->apply);
    frame->apply->generation = 42;
    frame->apply->n_ports = count;
    frame->apply->ports = g_new0(Dpd__Port *, count);
    for (guint i = 0; i < count; i++) {
        Dpd__Port *port = g_new0(Dpd__Port, 1);
        dpd__port__init(port);
        port->id = g_strdup_printf("default/instance%u/eth0", i);
        port->kind = DPD__KIND__VETH;
        port->netdev = g_strdup_printf("veth%08x", i);
        port->iface_id = g_strdup_printf("hawser-net1-instance-%u", i);
        frame->apply->ports[i] = port;
    }
    return frame;
}

static void
big_frame_free(Dpd__Frame *frame)
{
    for (size_t i = 0; i < frame->apply->n_ports; i++) {
        g_free(frame->apply->ports[i]->id);
        g_free(frame->apply->ports[i]->netdev);
        g_free(frame->apply->ports[i]->iface_id);
        g_free(frame->apply->ports[i]);
    }
    g_free(frame->apply->ports);
    g_free(frame->apply);
    g_free(frame);
}

static void
test_many_parts(void)
{
    Dpd__Frame *frame = big_frame(5000);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) parts = dpdwire_split(frame, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(parts->len, >, 3);
    g_autoptr(DpdJoiner) joiner = dpdjoiner_new();
    Dpd__Frame *back = NULL;
    for (guint i = 0; i < parts->len; i++) {
        gsize size;
        gconstpointer bytes = g_bytes_get_data(parts->pdata[i], &size);
        g_assert_null(back);
        g_assert_true(dpdjoiner_feed(joiner, bytes, size, &back, &error));
    }
    g_assert_nonnull(back);
    g_assert_cmpuint(back->apply->n_ports, ==, 5000);
    g_assert_cmpstr(back->apply->ports[4999]->netdev, ==, "veth00001387");
    dpdwire_frame_free(back);
    big_frame_free(frame);
}

static void
test_garbage(void)
{
    Dpd__Frame *frame = big_frame(1), *back = NULL;
    g_autoptr(GPtrArray) parts = dpdwire_split(frame, NULL);
    gsize size;
    g_autofree guint8 *bytes =
        g_memdup2(g_bytes_get_data(parts->pdata[0], &size), g_bytes_get_size(parts->pdata[0]));
    size = g_bytes_get_size(parts->pdata[0]);
    for (gsize cut = 0; cut < 12; cut++) { /* short, then an empty or a cut body */
        g_autoptr(DpdJoiner) joiner = dpdjoiner_new();
        g_autoptr(GError) error = NULL;
        g_assert_false(dpdjoiner_feed(joiner, bytes, cut, &back, &error));
        g_assert_error(error, HAW_ERROR, HAW_INVALID);
    }
    bytes[0] ^= 1;
    g_autoptr(DpdJoiner) joiner = dpdjoiner_new();
    g_assert_false(dpdjoiner_feed(joiner, bytes, size, &back, NULL));
    big_frame_free(frame);
}

static void
test_bound(void)
{
    /* Parts that go on and on: the joiner gives up at the bound, not at the end of memory. */
    g_autofree guint8 *part = g_malloc0(8 + DPDWIRE_PART_BYTES);
    memcpy(part, "HDP1\0\1\0\1", 8);
    g_autoptr(DpdJoiner) joiner = dpdjoiner_new();
    g_autoptr(GError) error = NULL;
    Dpd__Frame *frame = NULL;
    guint fed = 0;
    while (dpdjoiner_feed(joiner, part, 8 + DPDWIRE_PART_BYTES, &frame, &error)) {
        g_assert_cmpuint(++fed, <, 1000);
    }
    g_assert_error(error, HAW_ERROR, HAW_INVALID);
    g_assert_cmpuint(fed, ==, DPDWIRE_FRAME_BYTES / DPDWIRE_PART_BYTES);
}

/* ---- releases before and after ---- */

/* A field that our release does not know: a number, or bytes. */
static void
add_unknown(ProtobufCMessage *message, ProtobufCMessageUnknownField *field, guint32 tag, bool bytes)
{
    static guint8 number[] = {0x2a}, text[] = {3, 'n', 'e', 'w'};
    field->tag = tag;
    field->wire_type = bytes ? PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED : PROTOBUF_C_WIRE_TYPE_VARINT;
    field->len = bytes ? sizeof text : sizeof number;
    field->data = bytes ? text : number;
    message->unknown_fields = field;
    message->n_unknown_fields = 1;
}

/* The frame as it is read at the other end. */
static Dpd__Frame *
carried(const Dpd__Frame *frame)
{
    Dpd__Frame *back = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) parts = dpdwire_split(frame, &error);
    g_autoptr(DpdJoiner) joiner = dpdjoiner_new();
    g_assert_no_error(error);
    for (guint i = 0; i < parts->len; i++) {
        gsize size;
        gconstpointer bytes = g_bytes_get_data(parts->pdata[i], &size);
        g_assert_true(dpdjoiner_feed(joiner, bytes, size, &back, &error));
    }
    g_assert_nonnull(back);
    return back;
}

static void
test_far_of_others(void)
{
    guint32 port = 3;
    char *uplink = (char *) "eth0";
    ProtobufCMessageUnknownField in_net, in_far;
    Dpd__FarNetwork net = DPD__FAR_NETWORK__INIT, *nets[] = {&net};
    Dpd__FastFar far = DPD__FAST_FAR__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    net.vni = 7;
    net.zone = 5;
    far.networks = nets;
    far.n_networks = 1;
    far.uplinks = &uplink;
    far.n_uplinks = 1;
    frame.id = 9;
    frame.body_case = DPD__FRAME__BODY_FAST_FAR;
    frame.fast_far = &far;
    /* N-1 knew neither filter nor ports nor ends: nothing is dropped for what it did not say. */
    Dpd__Frame *before = carried(&frame);
    g_assert_cmpuint(before->fast_far->networks[0]->zone, ==, 5);
    g_assert_false(before->fast_far->filter);
    g_assert_false(before->fast_far->userspace);
    g_assert_cmpuint(before->fast_far->n_ends + before->fast_far->networks[0]->n_ports, ==, 0);
    dpdwire_frame_free(before);
    /* N+1 says more, of the whole and of a network: what we know of it is as it was said. */
    net.ports = &port;
    net.n_ports = 1;
    far.filter = true;
    add_unknown(&net.base, &in_net, 90, false);
    add_unknown(&far.base, &in_far, 91, true);
    Dpd__Frame *after = carried(&frame);
    g_assert_cmpuint(after->fast_far->n_networks, ==, 1);
    g_assert_cmpuint(after->fast_far->networks[0]->vni, ==, 7);
    g_assert_cmpuint(after->fast_far->networks[0]->ports[0], ==, 3);
    g_assert_cmpstr(after->fast_far->uplinks[0], ==, "eth0");
    g_assert_true(after->fast_far->filter);
    dpdwire_frame_free(after);
}

static void
test_unknown_request(void)
{
    ProtobufCMessageUnknownField body;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.id = 9;
    add_unknown(&frame.base, &body, 99, true);
    Dpd__Frame *back = carried(&frame);
    g_assert_cmpuint(back->id, ==, 9); /* it can be answered */
    g_assert_cmpint(back->body_case, ==, DPD__FRAME__BODY__NOT_SET);
    dpdwire_frame_free(back);
}

/* ---- over a socket ---- */

struct ends {
    DpdWire *near, *far;
    int passed;
};

static void
send_big(void *data)
{
    struct ends *ends = data;
    Dpd__Frame *frame = big_frame(20000); /* more than a socket buffers */
    g_autoptr(GError) error = NULL;
    g_assert_true(dpdwire_send(ends->near, frame, ends->passed, &error));
    g_assert_no_error(error);
    big_frame_free(frame);
}

static void
receive_big(void *data)
{
    struct ends *ends = data;
    g_autoptr(GError) error = NULL;
    haw_autofd int fd = -1;
    g_autoptr(DpdFrame) frame =
        dpdwire_receive(ends->far, ends->passed >= 0 ? &fd : NULL, 5000, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(frame->apply->n_ports, ==, 20000);
    g_assert_true((fd >= 0) == (ends->passed >= 0));
    dpdwire_shut(ends->near);
    g_assert_null(dpdwire_receive(ends->far, NULL, 5000, NULL, &error));
    g_assert_error(error, HAW_ERROR, HAW_UNAVAILABLE);
}

static void
refuse_fd(void *data)
{
    struct ends *ends = data;
    g_autoptr(GError) error = NULL;
    g_assert_null(dpdwire_receive(ends->far, NULL, 5000, NULL, &error));
    g_assert_error(error, HAW_ERROR, HAW_INVALID);
}

static void
run_ends(int passed, FiberFn receiver)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), ==,
                    0);
    struct ends ends = {dpdwire_new(&fds[0]), dpdwire_new(&fds[1]), passed};
    g_assert_true(dpdwire_check_peer(ends.near, NULL));
    fiber_start("send", send_big, &ends);
    fiber_start("receive", receiver, &ends);
    while (fiber_count() > 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    dpdwire_free(ends.near);
    dpdwire_free(ends.far);
}

static void
test_socket(void)
{
    run_ends(-1, receive_big);
}

static void
test_descriptor(void)
{
    haw_autofd int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    run_ends(fd, receive_big);
    run_ends(fd, refuse_fd);
}

/* ---- ports ---- */

static void
test_ports(void)
{
    Dpd__Port port = DPD__PORT__INIT;
    port.id = (char *) "p";
    port.kind = DPD__KIND__VETH;
    port.netdev = (char *) "veth0";
    g_assert_true(portspec_check(&port, NULL));
    const char *const names[] = {"", "a/b", "..", "sixteen-bytes-xx", "a b", "x\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        port.netdev = (char *) (guintptr) names[i];
        g_assert_false(portspec_check(&port, NULL));
    }
    port.netdev = (char *) "veth0";
    const char *const macs[] = {"1", "01:00:00:00:00:01", "00:16:3e:00:00:0g", "00-16-3e-00-00-01"};
    for (size_t i = 0; i < G_N_ELEMENTS(macs); i++) {
        port.mac = (char *) (guintptr) macs[i];
        g_assert_false(portspec_check(&port, NULL));
    }
    port.mac = (char *) "00:16:3e:00:00:01";
    port.mtu = 67;
    g_assert_false(portspec_check(&port, NULL));
    port.mtu = 9000;
    g_assert_true(portspec_check(&port, NULL));
    port.kind = (Dpd__Kind) 99;
    g_assert_false(portspec_check(&port, NULL));
    port.kind = DPD__KIND__VF;
    g_assert_false(portspec_check(&port, NULL));
    port.netdev = (char *) "";
    g_assert_true(portspec_check(&port, NULL));
    port.id = (char *) "";
    g_assert_false(portspec_check(&port, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dpdwire/a-version-ahead-or-behind-is-spoken-with", test_versions);
    g_test_add_func("/dpdwire/a-large-frame-goes-in-parts", test_many_parts);
    g_test_add_func("/dpdwire/foreign-bytes-are-refused", test_garbage);
    g_test_add_func("/dpdwire/a-frame-without-end-is-refused", test_bound);
    g_test_add_func("/dpdwire/what-a-release-before-or-after-says-of-other-hosts-is-read",
                    test_far_of_others);
    g_test_add_func("/dpdwire/a-request-of-a-release-after-can-be-answered", test_unknown_request);
    g_test_add_func("/dpdwire/a-frame-larger-than-the-socket-arrives", test_socket);
    g_test_add_func("/dpdwire/a-descriptor-comes-only-where-asked-for", test_descriptor);
    g_test_add_func("/portspec/what-is-no-port-is-refused", test_ports);
    return g_test_run();
}
