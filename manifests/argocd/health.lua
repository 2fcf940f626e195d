-- Health of a ModelRollout for Argo CD. How to install it: docs/users-guide.md, "Argo CD".
local function health(status, message)
  return { status = status, message = message or "" }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "being deleted: traffic goes to the stable version first")
end

-- What status says of an older spec says nothing of this one.
local seen = obj.status
if seen == nil or seen.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not seen this spec yet")
end

local function is_true(kind)
  for _, condition in ipairs(seen.conditions or {}) do
    if condition.type == kind then
      return condition.status == "True"
    end
  end
  return false
end

if is_true("Stalled") then
  return health("Degraded", seen.message)
end
if seen.phase == "Paused" then
  return health("Suspended", seen.message)
end
-- A policy with onDeadline: Pause waits for a person; with Rollback the phase is RollingBack by now.
if seen.reason == "DeadlineInconclusive" and (seen.phase == "Progressing" or seen.phase == "Held") then
  return health("Suspended", seen.message)
end
if is_true("Ready") then
  return health("Healthy", seen.message)
end
return health("Progressing", seen.message)
