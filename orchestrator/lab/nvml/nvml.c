/* A make-believe libnvidia-ml.so.1: NVML's functions as nvidia-ml-py and nvidia-smi call them, over a text file.
 *
 * The file: "driver VERSION", "cuda MAJOR.MINOR", and for each card a line of fields set apart by tabs:
 * gpu, name, total MiB, free MiB, compute capability, bus id, display (0/1), mig (0/1), PCIe generation, PCIe width.
 */

#include "cards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static card cards[MOST_CARDS];
static unsigned int count;
static int initialised;
static char driver[80];
static int cuda;

static void read_card(const char *line)
{
    card *one = &cards[count];
    memset(one, 0, sizeof *one);
    int found = sscanf(line, "gpu\t%95[^\t]\t%llu\t%llu\t%d.%d\t%x:%x:%x.%*x\t%d\t%d\t%u\t%u", one->name, &one->total_mib,
                       &one->free_mib, &one->capability_major, &one->capability_minor, &one->domain, &one->bus,
                       &one->device, &one->display, &one->mig, &one->pcie_generation, &one->pcie_width);
    if (found == 12) {
        one->index = (int)count;
        count++;
    }
}

int nvmlInit_v2(void)
{
    const char *path = getenv(CARDS_VARIABLE);
    FILE *file = fopen(path != NULL && path[0] != '\0' ? path : CARDS_FILE, "r");
    if (file == NULL)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    count = 0;
    char line[512];
    int major = 0, minor = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "gpu\t", 4) == 0 && count < MOST_CARDS)
            read_card(line);
        else if (sscanf(line, "cuda %d.%d", &major, &minor) == 2)
            cuda = major * 1000 + minor * 10;
        else
            sscanf(line, "driver %79s", driver);
    }
    fclose(file);
    initialised = 1;
    return NVML_SUCCESS;
}

int nvmlInit(void) { return nvmlInit_v2(); }

int nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    return nvmlInit_v2();
}

int nvmlShutdown(void)
{
    initialised = 0;
    return NVML_SUCCESS;
}

const char *nvmlErrorString(int result)
{
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    default: return "Unknown Error";
    }
}

static int copy(char *target, unsigned int length, const char *text)
{
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    if (target == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) + 1 > length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(target, text);
    return NVML_SUCCESS;
}

static int known(const card *device)
{
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    return device >= cards && device < cards + count ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

static int number(const card *device, unsigned int *target, unsigned int value)
{
    int result = known(device);
    if (result == NVML_SUCCESS)
        *target = value;
    return result;
}

int nvmlSystemGetDriverVersion(char *version, unsigned int length) { return copy(version, length, driver); }

int nvmlSystemGetNVMLVersion(char *version, unsigned int length) { return copy(version, length, MAKE_BELIEVE); }

int nvmlSystemGetCudaDriverVersion(int *version)
{
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    *version = cuda;
    return NVML_SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

int nvmlDeviceGetCount_v2(unsigned int *found)
{
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    *found = count;
    return NVML_SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, card **device)
{
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    if (index >= count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = &cards[index];
    return NVML_SUCCESS;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, card **device)
{
    unsigned int domain, bus, slot;
    if (!initialised)
        return NVML_ERROR_UNINITIALIZED;
    if (sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned int index = 0; index < count; index++) {
        if (cards[index].domain == domain && cards[index].bus == bus && cards[index].device == slot) {
            *device = &cards[index];
            return NVML_SUCCESS;
        }
    }
    return NVML_ERROR_NOT_FOUND;
}

int nvmlDeviceGetIndex(card *device, unsigned int *index)
{
    return number(device, index, known(device) == NVML_SUCCESS ? (unsigned int)device->index : 0);
}

int nvmlDeviceGetName(card *device, char *name, unsigned int length)
{
    int result = known(device);
    return result == NVML_SUCCESS ? copy(name, length, device->name) : result;
}

int nvmlDeviceGetUUID(card *device, char *uuid, unsigned int length)
{
    char made[64];
    int result = known(device);
    if (result != NVML_SUCCESS)
        return result;
    snprintf(made, sizeof made, "GPU-00000000-0000-0000-%04x-%08x%02x%02x", device->index & 0xffff, device->domain,
             device->bus & 0xff, device->device & 0xff);
    return copy(uuid, length, made);
}

int nvmlDeviceGetMemoryInfo(card *device, nvmlMemory_t *memory)
{
    int result = known(device);
    if (result != NVML_SUCCESS)
        return result;
    memory->total = device->total_mib << 20;
    memory->free = device->free_mib << 20;
    memory->used = memory->total - memory->free;
    return NVML_SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(card *device, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t plain;
    int result = nvmlDeviceGetMemoryInfo(device, &plain);
    if (result != NVML_SUCCESS)
        return result;
    memory->total = plain.total;
    memory->reserved = 0;
    memory->free = plain.free;
    memory->used = plain.used;
    return NVML_SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(card *device, nvmlPciInfo_t *pci)
{
    int result = known(device);
    if (result != NVML_SUCCESS)
        return result;
    memset(pci, 0, sizeof *pci);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", device->domain & 0xffff,
             device->bus & 0xff, device->device & 0xff);
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", device->domain, device->bus & 0xff,
             device->device & 0xff);
    pci->domain = device->domain;
    pci->bus = device->bus;
    pci->device = device->device;
    pci->pciDeviceId = 0x000010de; /* NVIDIA; which card it is not said */
    return NVML_SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(card *device, int *major, int *minor)
{
    int result = known(device);
    if (result != NVML_SUCCESS)
        return result;
    *major = device->capability_major;
    *minor = device->capability_minor;
    return NVML_SUCCESS;
}

int nvmlDeviceGetDisplayActive(card *device, unsigned int *active)
{
    return number(device, active, known(device) == NVML_SUCCESS ? (unsigned int)device->display : 0);
}

int nvmlDeviceGetDisplayMode(card *device, unsigned int *mode) { return nvmlDeviceGetDisplayActive(device, mode); }

static int link_value(card *device, unsigned int *target, unsigned int value)
{
    int result = number(device, target, value);
    return result == NVML_SUCCESS && value == 0 ? NVML_ERROR_NOT_SUPPORTED : result;
}

int nvmlDeviceGetMaxPcieLinkGeneration(card *device, unsigned int *generation)
{
    return link_value(device, generation, known(device) == NVML_SUCCESS ? device->pcie_generation : 0);
}

int nvmlDeviceGetMaxPcieLinkWidth(card *device, unsigned int *width)
{
    return link_value(device, width, known(device) == NVML_SUCCESS ? device->pcie_width : 0);
}

int nvmlDeviceGetCurrPcieLinkGeneration(card *device, unsigned int *generation)
{
    return nvmlDeviceGetMaxPcieLinkGeneration(device, generation);
}

int nvmlDeviceGetCurrPcieLinkWidth(card *device, unsigned int *width)
{
    return nvmlDeviceGetMaxPcieLinkWidth(device, width);
}

int nvmlDeviceGetMigMode(card *device, unsigned int *current, unsigned int *pending)
{
    int result = known(device);
    if (result != NVML_SUCCESS)
        return result;
    if (!device->mig)
        return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = 1;
    return NVML_SUCCESS;
}

/* Nothing runs on a card that is not there. */
static int nobody(card *device, unsigned int *running)
{
    return number(device, running, 0);
}

int nvmlDeviceGetComputeRunningProcesses_v3(card *device, unsigned int *running, void *list)
{
    (void)list;
    return nobody(device, running);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(card *device, unsigned int *running, void *list)
{
    (void)list;
    return nobody(device, running);
}

/* How cards are joined is not in the file, and no card of it has NVLink. */
int nvmlDeviceGetTopologyCommonAncestor(card *first, card *second, unsigned int *level)
{
    (void)level;
    int result = known(first);
    if (result == NVML_SUCCESS)
        result = known(second);
    return result == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : result;
}

int nvmlDeviceGetNvLinkState(card *device, unsigned int link, unsigned int *active)
{
    (void)link, (void)active;
    int result = known(device);
    return result == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : result;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(card *device, unsigned int link, nvmlPciInfo_t *pci)
{
    (void)pci;
    return nvmlDeviceGetNvLinkState(device, link, NULL);
}

int nvmlDeviceGetP2PStatus(card *first, card *second, unsigned int what, unsigned int *status)
{
    (void)what;
    return nvmlDeviceGetTopologyCommonAncestor(first, second, status);
}
