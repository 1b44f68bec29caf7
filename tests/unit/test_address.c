/* Addresses in gunicorn's notation, and the listening sockets made of them. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/address.h"
#include "common/listener.h"

static void
test_parse_and_format(void **state)
{
	static const struct {
		const char *text, *printed;
	} cases[] = {
	    {"127.0.0.1:8000", "http://127.0.0.1:8000"},
	    {"127.0.0.1", "http://127.0.0.1:8000"},
	    {":80", "http://0.0.0.0:80"},
	    {"0.0.0.0:0", "http://0.0.0.0:0"},
	    {"tcp://127.0.0.1:9", "http://127.0.0.1:9"},
	    {"localhost:81", "http://127.0.0.1:81"},
	    {"[::1]:8080", "http://[::1]:8080"},
	    {"[::]", "http://[::]:8000"},
	    {"::1", "http://[::1]:8000"},
	    {"unix:/run/x.sock", "unix:/run/x.sock"},
	    {"unix:///run/x.sock", "unix:/run/x.sock"},
	    {"unix:x.sock", "unix:x.sock"},
	};
	struct address a;
	char printed[ADDRESS_TEXT_SIZE], why[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (address_parse(&a, cases[i].text, why, sizeof(why)) == -1)
			fail_msg("%s: %s", cases[i].text, why);
		address_format(&a, printed, sizeof(printed));
		assert_string_equal(printed, cases[i].printed);
	}
}

static void
test_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
	    {"", "an empty address"},
	    {"unix:", "no path after unix:"},
	    {"127.0.0.1:", "the port is no number: \"\""},
	    {"127.0.0.1:-1", "the port is no number: \"-1\""},
	    {"127.0.0.1:80x", "the port is no number: \"80x\""},
	    {"127.0.0.1:65536", "port 65536 is out of range (0 to 65535)"},
	    {"127.0.0.1:99999999999999999999",
		"port 99999999999999999999 is out of range (0 to 65535)"},
	    {"[::1", "no ] in [::1"},
	    {"[::1]8000", "no :PORT after the ] in [::1]8000"},
	    {"/run/x.sock",
		"\"/run/x.sock\" is no address: write HOST:PORT, or unix:PATH for a path"},
	};
	struct address a;
	char why[256], path[256] = "unix:/";

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(address_parse(&a, cases[i].text, why, sizeof(why)), -1);
		assert_string_equal(why, cases[i].why);
	}
	assert_int_equal(address_parse(&a, "no.such.host.invalid:80", why, sizeof(why)), -1);
	assert_non_null(strstr(why, "unknown host \"no.such.host.invalid\""));
	memset(path + 6, 'x', 120);
	assert_int_equal(address_parse(&a, path, why, sizeof(why)), -1);
	assert_string_equal(why, "a path of 121 characters, the system allows 107");
	assert_int_equal(address_parse(&a, "", NULL, 0), -1);
}

static int
open_on(struct listener *l, const char *text, mode_t mask)
{
	struct listener_options options = {
	    .backlog = 16, .umask = mask, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct address a;

	assert_int_equal(address_parse(&a, text, NULL, 0), 0);
	return listener_open(l, &a, &options);
}

static void
test_listen_inet(void **state)
{
	struct listener l, other;
	char text[64];

	(void)state;
	assert_int_equal(open_on(&l, "127.0.0.1:0", 0), 0);
	assert_string_equal(l.server_name, "127.0.0.1");
	assert_true(atoi(l.server_port) > 0);
	assert_int_equal(fcntl(l.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fcntl(l.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	snprintf(text, sizeof(text), "127.0.0.1:%s", l.server_port);
	assert_int_equal(open_on(&other, text, 0), -1);
	assert_int_equal(errno, EADDRINUSE);
	listener_close(&l);
}

static void
test_listen_unix(void **state)
{
	char dir[] = "/tmp/test_address.XXXXXX", path[64], text[80];
	struct listener l, other;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(text, sizeof(text), "unix:%s", path);
	assert_int_equal(open_on(&l, text, 027), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0750);
	assert_string_equal(l.text, text);
	assert_string_equal(l.server_name, "");

	/* In use: refused. */
	assert_int_equal(open_on(&other, text, 0), -1);
	assert_int_equal(errno, EADDRINUSE);
	/* Its server is gone: replaced, and the first one's file is no more. */
	listener_close(&l);
	assert_int_equal(open_on(&other, text, 0), 0);
	if (l.ino != other.ino) /* a file system may use the number again at once */
		listener_unlink(&l);
	assert_int_equal(stat(path, &st), 0);
	listener_unlink(&other);
	assert_int_equal(stat(path, &st), -1);
	listener_close(&other);

	/* Something else is there: left alone. */
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(open_on(&l, text, 0), -1);
	assert_int_equal(errno, ENOTSOCK);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void
test_adopt(void **state)
{
	struct listener l, copy;
	int fds[2];

	(void)state;
	assert_int_equal(open_on(&l, "[::1]:0", 0), 0);
	assert_int_equal(listener_adopt(&copy, dup(l.fd)), 0);
	assert_string_equal(copy.text, l.text);
	assert_string_equal(copy.server_name, "::1");
	assert_string_equal(copy.server_port, l.server_port);
	assert_true(copy.inherited);
	listener_close(&copy);
	listener_close(&l);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(listener_adopt(&copy, fds[0]), -1);
	assert_int_equal(errno, EINVAL);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(listener_adopt(&copy, fds[0]), -1);
	assert_int_equal(errno, ENOTSOCK);
	close(fds[0]);
	close(fds[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse_and_format),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_listen_inet),
	    cmocka_unit_test(test_listen_unix),
	    cmocka_unit_test(test_adopt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
