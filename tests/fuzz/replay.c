/*
 * main() for builds without libFuzzer: run the target on each file of the folders named,
 * and on each with single bytes changed, cut off, doubled, so that every build tries a few thousand
 * inputs.
 */
#include <dirent.h>
#include <stdbool.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define SEED_MAX 65536

static size_t runs;

/* On memory of exactly that size: a sanitizer sees what is read beyond it. */
static void
run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	FUZZ_ASSERT(copy != NULL);
	memcpy(copy, data, size);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	runs++;
}

static void
run_variants(uint8_t *data, size_t size)
{
	static const uint8_t bytes[] = {'\0', '\t', '\n', '\r', ' ', ',', '0', ':', ';', 'A', 0x80};

	run(data, size);
	for (size_t at = 0; at < size && at < 600; at++) {
		uint8_t was = data[at];

		run(data, at);
		for (size_t i = 0; i < sizeof(bytes); i++) {
			data[at] = bytes[i];
			run(data, size);
		}
		data[at] = was;
		memmove(data + at + 1, data + at, size - at);
		run(data, size + 1);
		memmove(data + at, data + at + 1, size - at);
	}
}

static bool
run_file(const char *folder, const char *name)
{
	static uint8_t data[SEED_MAX + 1];
	char path[4096];
	size_t n;
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "rb");
	if (file == NULL) {
		perror(path);
		return false;
	}
	n = fread(data, 1, SEED_MAX, file);
	(void)fclose(file);
	run_variants(data, n);
	return true;
}

int
main(int argc, char **argv)
{
	size_t files = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		struct dirent *entry;

		if (dir == NULL) {
			perror(argv[i]);
			return 1;
		}
		while ((entry = readdir(dir)) != NULL) {
			if (entry->d_name[0] == '.')
				continue;
			if (!run_file(argv[i], entry->d_name))
				return 1;
			files++;
		}
		(void)closedir(dir);
	}
	(void)printf("%zu files, %zu inputs\n", files, runs);
	return files > 0 ? 0 : 1;
}
