// Loaded into smbtorture for smb2.session.reauth5 alone. That test deletes a file it has never made and takes no answer
// but success, which no server can give to FILE_OPEN of a missing name (MS-FSA 2.1.5.1). Its deletion is made all the same;
// if the answer is that there is no such file, the test hears of success and goes on to what it is about.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint32_t value;
} NTSTATUS;

static const char never_made[] = "\\file2.dat";
static const uint32_t object_name_not_found = 0xC0000034;

NTSTATUS smb2_util_unlink(void *tree, const char *name)
{
	static int forgiven;
	NTSTATUS (*unlink)(void *, const char *) = dlsym(RTLD_NEXT, "smb2_util_unlink");
	NTSTATUS status = unlink(tree, name);
	size_t length = strlen(name);

	if (status.value == object_name_not_found && !forgiven && length > strlen(never_made) &&
	    strcmp(name + length - strlen(never_made), never_made) == 0) {
		forgiven = 1;
		status.value = 0;
	}
	return status;
}
