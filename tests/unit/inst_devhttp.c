/* agent/inst/devhttp.c: what a guest's HTTP client may send. */
#include "agent/inst/devhttp.h"

#include <string.h>

static int
parse(const char *head, Devhttp *ret)
{
    return devhttp_parse(head, strlen(head), ret);
}

static void
request_line_and_headers_are_read(void)
{
    g_auto(Devhttp) request = {0};

    g_assert_cmpint(parse("GET /1.0/config/user.a%20b?type=x&y HTTP/1.1\r\nHost: lxd\r\n"
                          "X-Two:  padded \r\n\r\n",
                          &request),
                    ==, 0);
    g_assert_cmpstr(request.method, ==, "GET");
    g_assert_cmpstr(request.path, ==, "/1.0/config/user.a b");
    g_assert_cmpstr(devhttp_header(&request, "x-two"), ==, "padded");
    g_autofree char *type = devhttp_query(&request, "type");
    g_autofree char *y = devhttp_query(&request, "y");
    g_assert_cmpstr(type, ==, "x");
    g_assert_cmpstr(y, ==, "");
    g_assert_null(devhttp_query(&request, "z"));
    g_assert_true(request.keep_alive);
}

static void
a_head_ends_at_its_empty_line(void)
{
    g_assert_cmpuint(devhttp_head_size("GET / HTTP/1.1\r\n", 16), ==, 0);
    g_assert_cmpuint(devhttp_head_size("GET / HTTP/1.1\r\n\r\nbody", 22), ==, 18);
}

static void
bodies_are_bounded(void)
{
    static const struct {
        const char *length;
        int status;
    } cases[] = {{"12", 0},
                 {"65536", 0},
                 {"65537", 413},
                 {"-1", 400},
                 {"1 2", 400},
                 {"+1", 400},
                 {"99999999999999999999999", 413},
                 {"", 400}};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(Devhttp) request = {0};
        g_autofree char *head =
            g_strdup_printf("PATCH /1.0 HTTP/1.1\r\nContent-Length: %s\r\n\r\n", cases[i].length);
        g_assert_cmpint(parse(head, &request), ==, cases[i].status);
    }
    g_auto(Devhttp) chunked = {0};
    g_assert_cmpint(parse("PATCH /1.0 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &chunked),
                    ==, 501);
}

static void
nonsense_is_refused(void)
{
    static const char *const bad[] = {
        "\r\n\r\n",
        "GET /1.0\r\n\r\n",
        "GET /1.0 HTTP/2\r\n\r\n",
        "GET 1.0 HTTP/1.1\r\n\r\n",
        "GET /%zz HTTP/1.1\r\n\r\n",
        "GET /%00 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 x\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(Devhttp) request = {0};
        g_assert_cmpint(parse(bad[i], &request), ==, 400);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/devhttp/request-line-and-headers-are-read",
                    request_line_and_headers_are_read);
    g_test_add_func("/devhttp/a-head-ends-at-its-empty-line", a_head_ends_at_its_empty_line);
    g_test_add_func("/devhttp/bodies-are-bounded", bodies_are_bounded);
    g_test_add_func("/devhttp/nonsense-is-refused", nonsense_is_refused);
    return g_test_run();
}
