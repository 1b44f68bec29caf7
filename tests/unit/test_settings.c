/* Settings: defaults, the file's grammar, every kind of error, and the way to a worker and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/settings.h"
#include "common/settings_table.h"

static char path[] = "/tmp/test_settings.XXXXXX";

static int
setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	unsetenv("WEB_CONCURRENCY");
	unsetenv("PORT");
	unsetenv("SCRIPT_NAME");
	unsetenv("SENDFILE");
	unsetenv("FORWARDED_ALLOW_IPS");
	return fd == -1 ? -1 : close(fd);
}

static int
teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static void
file_write(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_not_equal(fputs(text, f), EOF);
	assert_int_equal(fclose(f), 0);
}

/* The settings of a file with that text, which must be right. */
static struct settings
settings_of(const char *text)
{
	struct settings s;
	struct settings_error error = {""};

	file_write(text);
	assert_int_equal(settings_init(&s, &error), 0);
	if (settings_read_file(&s, path, &error) == -1)
		fail_msg("%s", error.text);
	return s;
}

static void
test_defaults(void **state)
{
	struct settings s = settings_of("");
	struct settings_error error = {""};

	(void)state;
	assert_int_equal(s.bind.n, 1);
	assert_string_equal(s.bind.items[0], "127.0.0.1:8000");
	assert_int_equal(s.workers, 1);
	assert_string_equal(s.worker_class, "gevent");
	assert_int_equal(s.worker_connections, 1000);
	assert_int_equal(s.timeout, 30);
	assert_int_equal(s.keepalive, 75);
	assert_int_equal(s.backlog, 2048);
	assert_int_equal(s.limit_request_line, 4094);
	assert_int_equal(s.limit_request_fields, 100);
	assert_int_equal(s.limit_request_field_size, 8190);
	assert_int_equal(s.stack_size, 8 << 20);
	assert_true(s.require_host);
	assert_false(s.preload_app);
	assert_null(s.accesslog);
	assert_null(s.pidfile);
	assert_string_equal(s.errorlog, "-");
	assert_string_equal(s.loglevel, "info");
	assert_string_equal(s.access_log_format,
	    "%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\"");
	assert_int_equal(settings_check(&s, &error), 0);
	settings_fini(&s);
}

static void
test_environment_gives_defaults(void **state)
{
	struct settings s;
	struct settings_error error;

	(void)state;
	setenv("WEB_CONCURRENCY", "3", 1);
	setenv("PORT", "9000", 1);
	setenv("SCRIPT_NAME", "/app", 1);
	assert_int_equal(settings_init(&s, &error), 0);
	assert_int_equal(s.workers, 3);
	assert_int_equal(s.bind.n, 1);
	assert_string_equal(s.bind.items[0], "0.0.0.0:9000");
	assert_string_equal(s.script_name, "/app");
	assert_true(s.sendfile);
	settings_fini(&s);
	setenv("SENDFILE", "off", 1);
	setenv("FORWARDED_ALLOW_IPS", "10.0.0.1", 1);
	assert_int_equal(settings_init(&s, &error), 0);
	assert_false(s.sendfile);
	assert_string_equal(s.forwarded_allow_ips.items[0], "10.0.0.1");
	settings_fini(&s);
	setenv("WEB_CONCURRENCY", "many", 1);
	assert_int_equal(settings_init(&s, &error), -1);
	assert_string_equal(
	    error.text, "WEB_CONCURRENCY: workers: expected a whole number, found \"many\"");
	unsetenv("WEB_CONCURRENCY");
	unsetenv("PORT");
	unsetenv("SCRIPT_NAME");
	unsetenv("SENDFILE");
	unsetenv("FORWARDED_ALLOW_IPS");
}

static void
test_natural_forms(void **state)
{
	struct settings s =
	    settings_of("# a comment\n"
			"bind = [ \"127.0.0.1:1\", \"unix:/x\" ];\n"
			"raw_env = \"A=1\" // one string will do\n"
			"umask = 022; user = 1000; stack_size = \"1M\"\n"
			"preload_app = true; loglevel = \"WARNING\"; pidfile = \"\";");

	(void)state;
	assert_int_equal(s.bind.n, 2);
	assert_string_equal(s.bind.items[1], "unix:/x");
	assert_int_equal(s.raw_env.n, 1);
	assert_int_equal(s.umask, 022);
	assert_string_equal(s.user, "1000");
	assert_int_equal(s.stack_size, 1 << 20);
	assert_true(s.preload_app);
	assert_null(s.pidfile);
	settings_fini(&s);
	s = settings_of("umask = \"0o77\"; bind = ( \"a\", \"b\" ); stack_size = 300000;");
	assert_int_equal(s.umask, 077);
	assert_int_equal(s.bind.n, 2);
	assert_int_equal(s.stack_size, 300000);
	settings_fini(&s);
	s = settings_of("blocking_threshold = 0.25;");
	assert_true(s.blocking_threshold * 4 == 1.0);
	settings_fini(&s);
	s = settings_of("blocking_threshold = 2;");
	assert_true(s.blocking_threshold == 2.0);
	settings_fini(&s);
	s = settings_of("umask=0027; workers = 010; backlog = 08; # 010\n chdir = \"/007 008\";");
	assert_int_equal(s.umask, 027);
	assert_int_equal(s.workers, 10); /* whatever libconfig makes of the zero */
	assert_int_equal(s.backlog, 8);
	assert_string_equal(s.chdir, "/007 008");
	settings_fini(&s);
}

/* Strings will do where gunicorn would convert them, and groups hold what they like. */
static void
test_other_forms(void **state)
{
	struct settings s = settings_of(
	    "workers = \"0x10\"; timeout = \"0o17\"; backlog = 0x20; keepalive = \"007\";"
	    "preload_app = \"True\"; blocking_threshold = \"1.5\"; stack_size = \"0b1m\";"
	    "http: { timeouts: { send_timeout = 5; }; body_timeout = 6; };"
	    "proc_name = \"one \"\n \"two\";");

	(void)state;
	assert_int_equal(s.workers, 16);
	assert_int_equal(s.timeout, 15);
	assert_int_equal(s.backlog, 32);
	assert_int_equal(s.keepalive, 7);
	assert_int_equal(s.stack_size, 1 << 20);
	assert_true(s.preload_app);
	assert_true(s.blocking_threshold * 2 == 3.0);
	assert_int_equal(s.send_timeout, 5);
	assert_int_equal(s.body_timeout, 6);
	assert_string_equal(s.proc_name, "one two");
	settings_fini(&s);
}

/* The value of a list as one string. */
static const char *
joined(const struct strlist *list)
{
	static char text[256];
	size_t n = 0;

	text[0] = '\0';
	for (size_t i = 0; i < list->n; i++)
		n += (size_t)snprintf(
		    text + n, sizeof(text) - n, "%s%s", i > 0 ? "|" : "", list->items[i]);
	return text;
}

static void
test_choices_and_lists(void **state)
{
	struct settings s = settings_of("");
	struct settings_error error;

	(void)state;
	assert_string_equal(joined(&s.forwarded_allow_ips), "127.0.0.1|::1");
	assert_string_equal(joined(&s.secure_scheme_headers),
	    "X-FORWARDED-PROTOCOL: ssl|X-FORWARDED-PROTO: https|X-FORWARDED-SSL: on");
	assert_int_equal(
	    settings_set(&s, "forwarded_allow_ips", " 10.0.0.0/8 ,,*", "x", &error), 0);
	assert_string_equal(joined(&s.forwarded_allow_ips), "10.0.0.0/8|*");
	assert_int_equal(settings_set(&s, "forwarded_allow_ips", "", "x", &error), 0);
	assert_int_equal(s.forwarded_allow_ips.n, 0);
	assert_int_equal(settings_set(&s, "header_map", "Refuse", "x", &error), 0);
	assert_string_equal(s.header_map, "refuse");
	assert_int_equal(settings_set(&s, "header_map", "ref", "x", &error), -1);
	assert_int_equal(settings_set(&s, "proxy_protocol", "True", "x", &error), 0);
	assert_string_equal(s.proxy_protocol, "auto");
	assert_int_equal(settings_set(&s, "proxy_protocol", "none", "x", &error), 0);
	assert_string_equal(s.proxy_protocol, "off");
	settings_fini(&s);

	s = settings_of(
	    "forwarded_allow_ips = [ \"::1\", \"10.0.0.1\" ]; proxy_protocol = true;"
	    "secure_scheme_headers = { X-Ssl = \"on\"; };"
	    "logconfig_dict = { version = 1; a = ( 1.5, true, \"q\\\"\\n\" ); b = { }; };");
	assert_string_equal(joined(&s.forwarded_allow_ips), "::1|10.0.0.1");
	assert_string_equal(s.proxy_protocol, "auto");
	assert_string_equal(joined(&s.secure_scheme_headers), "X-Ssl: on");
	assert_string_equal(
	    s.logconfig_dict, "{\"version\": 1, \"a\": [1.5, true, \"q\\\"\\u000a\"], \"b\": {}}");
	settings_fini(&s);
	s = settings_of(
	    "secure_scheme_headers = [ \"A:b\", \"C:  d:e\" ]; logconfig_dict = \"{}\";");
	assert_string_equal(joined(&s.secure_scheme_headers), "A: b|C: d:e");
	assert_string_equal(s.logconfig_dict, "{}");
	settings_fini(&s);
}

static void
test_is_default(void **state)
{
	struct settings s = settings_of("workers = 1; timeout = 31; certfile = \"\";");

	(void)state;
	assert_true(settings_is_default(&s, settings_find("workers")));
	assert_true(settings_is_default(&s, settings_find("backlog")));
	assert_true(settings_is_default(&s, settings_find("certfile")));
	assert_false(settings_is_default(&s, settings_find("timeout")));
	settings_fini(&s);
}

static void
test_bad_files(void **state)
{
	static const struct {
		const char *text, *error; /* without the path */
	} cases[] = {
	    {"workres = 4;", ":1: workres: unknown setting, did you mean workers?"},
	    {"xyzzy = 4;", ":1: xyzzy: unknown setting"},
	    {"proxy_protocol = \"v3\";",
		":1: proxy_protocol: expected [off|v1|v2|auto], found \"v3\""},
	    {"header_map = true;",
		":1: header_map: expected drop|refuse|dangerous in quotes, found true or false"},
	    {"secure_scheme_headers = { A = 1; };",
		":1: secure_scheme_headers: expected a string for each name, found a number"},
	    {"secure_scheme_headers = \"A\";",
		":1: secure_scheme_headers: expected \"NAME: VALUE\", found \"A\""},
	    {"secure_scheme_headers = 1;",
		":1: secure_scheme_headers: expected a group of NAME = \"VALUE\", found a number"},
	    {"logconfig_dict = [ ];",
		":1: logconfig_dict: expected a group, or JSON in a string, found a list"},
	    {"post_fork = \"hooks\";", ":1: post_fork: expected module:function, found \"hooks\""},
	    {"on_exit = 1;", ":1: on_exit: expected module:function in quotes, found a number"},
	    {"\n\nworkers = \"4x\";", ":3: workers: expected a whole number, found \"4x\""},
	    {"workers = [ 4 ];", ":1: workers: expected a whole number, found a list"},
	    {"access_logfile = \"x\";",
		":1: access_logfile: unknown setting, did you mean accesslog?"},
	    {"keep_alive = 2;", ":1: keep_alive: unknown setting, did you mean keepalive?"},
	    {"logging = {\n loglevel = \"x\"; };",
		":2: loglevel: expected debug, info, warning, error or critical, found \"x\""},
	    {"ssl = { certfiel = \"x\"; };",
		":1: certfiel: unknown setting, did you mean certfile?"},
	    {"workers = 2;\na = { b = { workers = 3; } };",
		":2: workers: it is set in line 1 already"},
	    {"@include \"/no/such\"", ":1: cannot include /no/such: No such file or directory"},
	    {"a = {\n@include \"x\"\n};", ":2: @include cannot stand in a group"},
	    {"\n@include 'x'", ":2: expected @include \"FILE\""},
	    {"\n@include \"x\n\"", ":2: expected @include \"FILE\""},
	    {"workers = 0;", ":1: workers: 0 is out of range (1 to 1024)"},
	    {"workers = 4294967297;", ":1: workers: 4294967297 is out of range (1 to 1024)"},
	    {"workers = 04294967297;", ":1: workers: 4294967297 is out of range (1 to 1024)"},
	    {"# 99999999999\nworkers = 99999999999999999999999L;",
		":2: workers: 99999999999999999999999L is out of range (1 to 1024)"},
	    {"workers = -1;", ":1: workers: -1 is out of range (1 to 1024)"},
	    {"timeout = 1.5;", ":1: timeout: expected a whole number, found a fraction"},
	    {"timeout = true;", ":1: timeout: expected a whole number, found true or false"},
	    {"blocking_threshold = -0.1;",
		":1: blocking_threshold: -0.1 is out of range (0 to 3600)"},
	    {"blocking_threshold = \"\";",
		":1: blocking_threshold: expected seconds such as 2 or 0.1, found \"\""},
	    {"preload_app = 1;", ":1: preload_app: expected true or false, found a number"},
	    {"bind = 8000;", ":1: bind: expected a string or a list of strings, found a number"},
	    {"bind = { a = 1; };",
		":1: bind: expected a string or a list of strings, found a group"},
	    {"bind = ( \"a\", 1 );", ":1: bind: expected strings in the list, found a number"},
	    {"loglevel = \"loud\";",
		":1: loglevel: expected debug, info, warning, error or critical, found \"loud\""},
	    {"errorlog = 5;", ":1: errorlog: expected a string, found a number"},
	    {"user = 1.5;", ":1: user: expected a name or a number, found a fraction"},
	    {"umask = 0x12;", ":1: umask: expected an octal number such as 022"},
	    {"umask = 89;", ":1: umask: expected an octal number such as 022, found \"89\""},
	    {"umask = 1777;", ":1: umask: 1777 is out of range (0 to 777)"},
	    {"stack_size = \"8x\";",
		":1: stack_size: expected k, m or g after the number, found \"x\""},
	    {"stack_size = \"99999999999g\";",
		":1: stack_size: 9223372036854775807 is out of range "
		"(262144 to 1073741824)"},
	    {"workers = 1;\nworkers = 2;", ":2: workers: duplicate setting name"},
	    {"workers = 1;\ntimeout = = 2;", ":2: timeout: syntax error"},
	    {"bind = 'x';", ":1: bind: syntax error"},
	};
	struct settings s;
	struct settings_error error;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		file_write(cases[i].text);
		assert_int_equal(settings_init(&s, &error), 0);
		assert_int_equal(settings_read_file(&s, path, &error), -1);
		assert_memory_equal(error.text, path, strlen(path));
		assert_string_equal(error.text + strlen(path), cases[i].error);
		settings_fini(&s);
	}
}

static void
test_bad_values(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
	    {"bind = \"unix:\";", ":1: bind: no path after unix:"},
	    {"\nbind = \"127.0.0.1:http\";", ":2: bind: the port is no number: \"http\""},
	    {"bind = [ ];", ":1: bind: no address to listen on"},
	    {"user = \"no-such-user\";", ":1: user: unknown user \"no-such-user\""},
	    {"group = \"no-such-group\";", ":1: group: unknown group \"no-such-group\""},
	    {"raw_env = [ \"A=1\", \"B\" ];", ":1: raw_env: expected NAME=VALUE"},
	    {"certfile = \"x\";",
		":1: certfile: not supported yet: have a proxy such as nginx do TLS"},
	    {"http_protocols = \"h2,h1\";",
		":1: http_protocols: not supported yet: have a proxy such as nginx speak HTTP/2"},
	    {"worker_class = \"tornado\";",
		":1: worker_class: expected green, or gevent, gevent_pywsgi, eventlet, which mean "
		"the same here; sync or gthread"},
	    {"worker_class = \"uvicorn.workers.UvicornWorker\";",
		":1: worker_class: uvicorn.workers.UvicornWorker is for ASGI applications: "
		"greenicorn serves WSGI ones"},
	    {"worker_class = \"shop.workers.Mine\";",
		":1: worker_class: shop.workers.Mine is a class of Python's, and greenicorn's "
		"workers are none: expected green (or gevent, eventlet), sync or gthread"},
	    {"access_log_format = \"\";", ":1: access_log_format: an empty format"},
	    {"chdir = \"/no/such\";", ":1: chdir: no such directory: \"/no/such\""},
	    {"virtualenv = \"/etc/passwd\";", ":1: virtualenv: no such directory: \"/etc/passwd\""},
	};
	struct settings s;
	struct settings_error error;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		s = settings_of(cases[i].text);
		assert_int_equal(settings_check(&s, &error), -1);
		assert_string_equal(error.text + strlen(path), cases[i].error);
		settings_fini(&s);
	}
}

static void
test_unreadable_files(void **state)
{
	static const struct {
		const char *path, *error;
	} cases[] = {
	    {"/no/such", "/no/such: cannot read it: No such file or directory"},
	    {"/tmp", "/tmp: cannot read it: not a regular file"},
	    {"/dev/zero", "/dev/zero: cannot read it: not a regular file"},
	};
	struct settings s;
	struct settings_error error;

	(void)state;
	assert_int_equal(settings_init(&s, &error), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(settings_read_file(&s, cases[i].path, &error), -1);
		assert_string_equal(error.text, cases[i].error);
	}
	assert_int_equal(settings_read_file(&s, "./gunicorn.conf.py", &error), -1);
	assert_non_null(
	    strstr(error.text, "a Python file is not read: greenicorn --from-gunicorn"));
	settings_fini(&s);
}

static void
test_set_and_append(void **state)
{
	struct settings s = settings_of("bind = \"a\";");
	struct settings_error error;
	static const char *const bad[] = {
	    "", ".", "1x", "-1", "nan", "1e400", "0x1", "1,5", "1.2.3"};

	(void)state;
	assert_int_equal(settings_set(&s, "workers", "7", "command line", &error), 0);
	assert_int_equal(s.workers, 7);
	assert_int_equal(settings_set(&s, "bind", "b", "command line", &error), 0);
	assert_int_equal(settings_append(&s, "bind", "c", "command line", &error), 0);
	assert_int_equal(s.bind.n, 2);
	assert_string_equal(s.bind.items[1], "c");
	assert_int_equal(settings_set(&s, "blocking_threshold", ".5", "x", &error), 0);
	assert_true(s.blocking_threshold * 2 == 1.0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(settings_set(&s, "blocking_threshold", bad[i], "x", &error), -1);
	assert_int_equal(settings_set(&s, "workers", "7x", "command line", &error), -1);
	assert_string_equal(
	    error.text, "command line: workers: expected a whole number, found \"7x\"");
	assert_int_equal(s.workers, 7);
	assert_int_equal(settings_append(&s, "workers", "1", "x", &error), -1);
	assert_string_equal(settings_origin(&s, "workers"), "command line");
	assert_string_equal(settings_origin(&s, "timeout"), "default");
	settings_fini(&s);
}

/* What a worker reads is what the master had, whatever is in the strings. */
static void
test_round_trip(void **state)
{
	struct settings s = settings_of("workers = 5; stack_size = \"1g\"; umask = 7; bind = [ ];"
					"require_host = false; group = \"x\"; pythonpath = \"\";");
	struct settings copy;
	struct settings_error error;
	FILE *f = tmpfile();

	(void)state;
	assert_int_equal(
	    settings_set(&s, "proc_name", "a\"b\\c\n\t\x01\x7f\xc3\xa9 # //", "x", &error), 0);
	assert_int_equal(settings_set(&s, "raw_env", "A=\\\"", "x", &error), 0);
	assert_int_equal(settings_append(&s, "raw_env", "", "x", &error), 0);
	assert_int_equal(settings_write_fd(&s, fileno(f)), 0);
	assert_int_equal(settings_init(&copy, &error), 0);
	if (settings_read_fd(&copy, fileno(f), &error) == -1)
		fail_msg("%s", error.text);
	for (size_t i = 0; i < settings_count; i++)
		assert_true(settings_equal(&s, &copy, &settings_table[i]));
	assert_int_equal(copy.raw_env.n, 2);
	assert_int_equal(copy.bind.n, 0);
	assert_null(copy.pythonpath);
	settings_fini(&copy);
	settings_fini(&s);
	fclose(f);
}

static void
test_copy_and_equal(void **state)
{
	struct settings a = settings_of("umask = 022; user = \"x\"; bind = [ \"1\", \"2\" ];"), b;
	struct settings_error error;
	const char *const names[] = {"umask", "user", "bind"};

	(void)state;
	assert_int_equal(settings_init(&b, &error), 0);
	for (size_t i = 0; i < 3; i++) {
		const struct setting *row = settings_find(names[i]);

		assert_false(settings_equal(&a, &b, row));
		assert_int_equal(settings_copy(&b, &a, row), 0);
		assert_true(settings_equal(&a, &b, row));
	}
	settings_fini(&a);
	settings_fini(&b);
}

/* Each row is fit for a flag, --help and the man page. */
static void
test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];
		size_t n = strlen(row->help);

		assert_true(n > 10 && row->help[n - 1] == '.');
		assert_ptr_equal(settings_find(row->name), row);
		assert_true(
		    row->long_flag == NULL || (row->metavar == NULL) == (row->kind == &kind_BOOL));
		for (size_t j = 0; j < i; j++) {
			const struct setting *other = &settings_table[j];

			assert_true(row->short_flag == 0 || row->short_flag != other->short_flag);
			assert_true(row->long_flag == NULL || other->long_flag == NULL ||
				    strcmp(row->long_flag, other->long_flag) != 0);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_environment_gives_defaults),
	    cmocka_unit_test(test_natural_forms),
	    cmocka_unit_test(test_other_forms),
	    cmocka_unit_test(test_choices_and_lists),
	    cmocka_unit_test(test_is_default),
	    cmocka_unit_test(test_bad_files),
	    cmocka_unit_test(test_bad_values),
	    cmocka_unit_test(test_unreadable_files),
	    cmocka_unit_test(test_set_and_append),
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_copy_and_equal),
	    cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
