/* A make-believe nvidia-smi over the make-believe NVML: the few questions that detection asks, and nothing else. */

#include "cards.h"

#include <stdio.h>
#include <string.h>

static char driver[80];
static int cuda;
static unsigned int count;

static card *handle(unsigned int index)
{
    card *device = NULL;
    nvmlDeviceGetHandleByIndex_v2(index, &device);
    return device;
}

static void name_of(card *device, char *text, size_t size) { nvmlDeviceGetName(device, text, (unsigned int)size); }

static void memory_of(card *device, const char *field, char *text, size_t size)
{
    nvmlMemory_t memory;
    nvmlDeviceGetMemoryInfo(device, &memory);
    unsigned long long bytes = memory.used;
    if (strcmp(field, "memory.total") == 0)
        bytes = memory.total;
    else if (strcmp(field, "memory.free") == 0)
        bytes = memory.free;
    snprintf(text, size, "%llu", bytes >> 20);
}

static void link_of(int result, unsigned int value, char *text, size_t size)
{
    if (result == NVML_SUCCESS)
        snprintf(text, size, "%u", value);
    else
        snprintf(text, size, "[N/A]");
}

/* Gives 0 for a field that this program does not know. */
static int answer(unsigned int index, const char *field, char *text, size_t size)
{
    card *device = handle(index);
    nvmlPciInfo_t pci;
    int major, minor;
    unsigned int value = 0, pending = 0;

    if (strcmp(field, "index") == 0) {
        snprintf(text, size, "%u", index);
    } else if (strcmp(field, "name") == 0 || strcmp(field, "gpu_name") == 0) {
        name_of(device, text, size);
    } else if (strcmp(field, "uuid") == 0 || strcmp(field, "gpu_uuid") == 0) {
        nvmlDeviceGetUUID(device, text, (unsigned int)size);
    } else if (strcmp(field, "count") == 0) {
        snprintf(text, size, "%u", count);
    } else if (strncmp(field, "memory.", 7) == 0 && strstr(" total free used ", field + 7) != NULL) {
        memory_of(device, field, text, size);
    } else if (strcmp(field, "compute_cap") == 0) {
        nvmlDeviceGetCudaComputeCapability(device, &major, &minor);
        snprintf(text, size, "%d.%d", major, minor);
    } else if (strcmp(field, "pci.bus_id") == 0 || strcmp(field, "gpu_bus_id") == 0) {
        nvmlDeviceGetPciInfo_v3(device, &pci);
        snprintf(text, size, "%s", pci.busId);
    } else if (strcmp(field, "driver_version") == 0) {
        snprintf(text, size, "%s", driver);
    } else if (strcmp(field, "display_active") == 0) {
        nvmlDeviceGetDisplayActive(device, &value);
        snprintf(text, size, "%s", value ? "Enabled" : "Disabled");
    } else if (strcmp(field, "pcie.link.gen.max") == 0 || strcmp(field, "pcie.link.gen.current") == 0) {
        int result = nvmlDeviceGetMaxPcieLinkGeneration(device, &value);
        link_of(result, value, text, size);
    } else if (strcmp(field, "pcie.link.width.max") == 0 || strcmp(field, "pcie.link.width.current") == 0) {
        int result = nvmlDeviceGetMaxPcieLinkWidth(device, &value);
        link_of(result, value, text, size);
    } else if (strcmp(field, "mig.mode.current") == 0) {
        int result = nvmlDeviceGetMigMode(device, &value, &pending);
        snprintf(text, size, "%s", result == NVML_SUCCESS ? "Enabled" : "[N/A]");
    } else {
        return 0;
    }
    return 1;
}

static int query(const char *wanted, int header, int units)
{
    char text[128];
    if (header) {
        char names[1024];
        snprintf(names, sizeof names, "%s", wanted);
        const char *gap = "";
        for (char *field = strtok(names, ","); field != NULL; field = strtok(NULL, ",")) {
            int memory = units && strncmp(field, "memory.", 7) == 0;
            printf("%s%s%s", gap, field, memory ? " [MiB]" : "");
            gap = ", ";
        }
        printf("\n");
    }
    for (unsigned int index = 0; index < count; index++) {
        char fields[1024];
        snprintf(fields, sizeof fields, "%s", wanted);
        const char *gap = "";
        for (char *field = strtok(fields, ", "); field != NULL; field = strtok(NULL, ", ")) {
            if (!answer(index, field, text, sizeof text)) {
                printf("Field \"%s\" is not a valid field to query.\n", field);
                return 2;
            }
            printf("%s%s%s", gap, text, units && strncmp(field, "memory.", 7) == 0 ? " MiB" : "");
            gap = ", ";
        }
        printf("\n");
    }
    return 0;
}

static int list(void)
{
    char name[96], uuid[96];
    for (unsigned int index = 0; index < count; index++) {
        name_of(handle(index), name, sizeof name);
        nvmlDeviceGetUUID(handle(index), uuid, sizeof uuid);
        printf("GPU %u: %s (UUID: %s)\n", index, name, uuid);
    }
    return 0;
}

static int summary(void)
{
    char name[96], total[32], used[32], bus[40];
    printf("+---- %s ----+\n", MAKE_BELIEVE);
    printf("| NVIDIA-SMI %s    Driver Version: %s    CUDA Version: %d.%d |\n", driver, driver, cuda / 1000,
           cuda % 1000 / 10);
    for (unsigned int index = 0; index < count; index++) {
        name_of(handle(index), name, sizeof name);
        answer(index, "memory.total", total, sizeof total);
        answer(index, "memory.used", used, sizeof used);
        answer(index, "pci.bus_id", bus, sizeof bus);
        printf("| %3u  %s  %s  %sMiB / %sMiB |\n", index, name, bus, used, total);
    }
    return 0;
}

/* Every pair goes through the host bridge: the file does not say how cards are joined. */
static int topology(void)
{
    for (unsigned int column = 0; column < count; column++)
        printf("\tGPU%u", column);
    printf("\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n");
    for (unsigned int row = 0; row < count; row++) {
        printf("GPU%u", row);
        for (unsigned int column = 0; column < count; column++)
            printf("\t%s", row == column ? " X " : "PHB");
        printf("\t\t\tN/A\n");
    }
    printf("\nLegend:\n\n  X    = Self\n  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge\n");
    return 0;
}

static int prepare(void)
{
    int result = nvmlInit_v2();
    if (result == NVML_SUCCESS)
        result = nvmlSystemGetDriverVersion(driver, sizeof driver);
    if (result == NVML_SUCCESS)
        result = nvmlSystemGetCudaDriverVersion_v2(&cuda);
    if (result == NVML_SUCCESS)
        result = nvmlDeviceGetCount_v2(&count);
    if (result != NVML_SUCCESS)
        printf("NVIDIA-SMI has failed: %s (%s)\n", nvmlErrorString(result), MAKE_BELIEVE);
    return result;
}

int main(int argc, char **argv)
{
    const char *wanted = NULL;
    int header = 1, units = 1;

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("%s\n", MAKE_BELIEVE);
        return 0;
    }
    int failed = prepare();
    if (failed)
        return failed;
    if (argc == 1)
        return summary();
    if (argc == 2 && (strcmp(argv[1], "-L") == 0 || strcmp(argv[1], "--list-gpus") == 0))
        return list();
    if (argc == 3 && strcmp(argv[1], "topo") == 0 && (strcmp(argv[2], "-m") == 0 || strcmp(argv[2], "--matrix") == 0))
        return topology();
    for (int at = 1; at < argc; at++) {
        if (strncmp(argv[at], "--query-gpu=", 12) == 0) {
            wanted = argv[at] + 12;
        } else if (strncmp(argv[at], "--format=csv", 12) == 0) {
            header = strstr(argv[at], "noheader") == NULL;
            units = strstr(argv[at], "nounits") == NULL;
        } else {
            printf("Invalid combination of input arguments: the make-believe nvidia-smi does not know %s\n", argv[at]);
            return 2;
        }
    }
    return wanted != NULL ? query(wanted, header, units) : 2;
}
