//! What commands do to users and roles: etcd's rules.
//!
//! Owns when the auth revision rises, and which changes are refused. Who may make them is not asked here (`authorise.rs`).

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use vlot_proto::authpb;
use vlot_proto::etcdserverpb::{
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};

use super::{Auth, AuthCommand, ROOT, Role, TokenKey, User, permits};
use crate::refusal::Refusal;

impl Auth {
    /// Makes a change, all of it or nothing.
    pub(crate) fn apply(&mut self, command: AuthCommand) -> Result<(), Refusal> {
        match command {
            AuthCommand::Enable { token_key } => self.enable(token_key),
            AuthCommand::Disable => {
                self.disable();
                Ok(())
            }
            AuthCommand::UserAdd(request) => self.add_user(&request),
            AuthCommand::UserDelete(request) => self.delete_user(&request.name),
            AuthCommand::UserChangePassword(request) => self.change_password(&request),
            AuthCommand::UserGrantRole(request) => self.grant_role(&request),
            AuthCommand::UserRevokeRole(request) => self.revoke_role(&request),
            AuthCommand::RoleAdd(request) => self.add_role(&request.name),
            AuthCommand::RoleDelete(request) => self.delete_role(&request.role),
            AuthCommand::RoleGrantPermission(request) => self.grant_permission(&request),
            AuthCommand::RoleRevokePermission(request) => self.revoke_permission(&request),
        }
    }

    fn enable(&mut self, token_key: TokenKey) -> Result<(), Refusal> {
        if self.is_enabled {
            return Ok(());
        }
        let root = self.user(ROOT).ok_or(Refusal::RootUserNotExist)?;
        if !root.is_root() {
            return Err(Refusal::RootRoleNotExist);
        }
        self.is_enabled = true;
        self.token_key = token_key;
        self.changed.state = true;
        Ok(())
    }

    fn disable(&mut self) {
        if self.is_enabled {
            self.is_enabled = false;
            self.rise();
        }
    }

    fn add_user(&mut self, request: &AuthUserAddRequest) -> Result<(), Refusal> {
        if request.name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if !request.password.is_empty() {
            return Err(Refusal::PlainPassword);
        }
        if self.user(&request.name).is_some() {
            return Err(Refusal::UserExists);
        }
        let has_password = !request.options.is_some_and(|options| options.no_password);
        let hash = has_password.then(|| Arc::from(&*request.hashed_password));
        let generation = self.rise();
        let user = User { hash, roles: BTreeSet::new(), generation, permits: OnceLock::new() };
        self.put_user(Arc::from(&*request.name), user);
        Ok(())
    }

    fn delete_user(&mut self, name: &str) -> Result<(), Refusal> {
        if self.is_enabled && name == ROOT {
            return Err(Refusal::InvalidAuthMgmt);
        }
        let (name, _) = self.users.remove_entry(name).ok_or(Refusal::UserNotFound)?;
        self.changed.users.insert(name);
        self.rise();
        Ok(())
    }

    fn change_password(&mut self, request: &AuthUserChangePasswordRequest) -> Result<(), Refusal> {
        if !request.password.is_empty() {
            return Err(Refusal::PlainPassword);
        }
        let (name, mut user) = self.user_to_change(&request.name)?;
        // Who has no password gets none.
        user.hash = user.hash.map(|_| Arc::from(&*request.hashed_password));
        user.generation = self.rise();
        self.put_user(name, user);
        Ok(())
    }

    fn grant_role(&mut self, request: &AuthUserGrantRoleRequest) -> Result<(), Refusal> {
        let (name, mut user) = self.user_to_change(&request.user)?;
        if request.role != ROOT && self.role(&request.role).is_none() {
            return Err(Refusal::RoleNotFound);
        }
        if user.roles.insert(Arc::from(&*request.role)) {
            self.rise();
            self.put_user(name, user);
        }
        Ok(())
    }

    fn revoke_role(&mut self, request: &AuthUserRevokeRoleRequest) -> Result<(), Refusal> {
        if self.is_enabled && request.name == ROOT && request.role == ROOT {
            return Err(Refusal::InvalidAuthMgmt);
        }
        let (name, mut user) = self.user_to_change(&request.name)?;
        if !user.roles.remove(&*request.role) {
            return Err(Refusal::RoleNotGranted);
        }
        self.rise();
        self.put_user(name, user);
        Ok(())
    }

    fn add_role(&mut self, name: &str) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.role(name).is_some() {
            return Err(Refusal::RoleExists);
        }
        self.rise();
        self.put_role(Arc::from(name), Role::default());
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), Refusal> {
        if self.is_enabled && name == ROOT {
            return Err(Refusal::InvalidAuthMgmt);
        }
        let (name, _) = self.roles.remove_entry(name).ok_or(Refusal::RoleNotFound)?;
        for (user_name, user) in &mut self.users {
            if user.has_role(&name) {
                let user = Arc::make_mut(user);
                user.roles.remove(&name);
                user.permits = OnceLock::new();
                self.changed.users.insert(Arc::clone(user_name));
            }
        }
        self.changed.roles.insert(name);
        self.rise();
        Ok(())
    }

    fn grant_permission(&mut self, request: &AuthRoleGrantPermissionRequest) -> Result<(), Refusal> {
        let given = request.perm.as_ref().ok_or(Refusal::PermissionNotGiven)?;
        if !permits::is_valid(&given.key, &given.range_end) {
            return Err(Refusal::InvalidAuthMgmt);
        }
        let (name, mut role) = self.role_to_change(&request.name)?;
        let of_same_range =
            |one: &&mut authpb::Permission| (&one.key, &one.range_end) == (&given.key, &given.range_end);
        match role.permissions.iter_mut().find(of_same_range) {
            Some(permission) => permission.perm_type = given.perm_type,
            None => {
                let place = role.permissions.partition_point(|one| one.key <= given.key);
                // The slices of a request would hold on to the whole buffer that they came in.
                let (key, range_end) = (Bytes::copy_from_slice(&given.key), Bytes::copy_from_slice(&given.range_end));
                role.permissions.insert(place, authpb::Permission { perm_type: given.perm_type, key, range_end });
            }
        }
        self.rise();
        self.put_role(name, role);
        Ok(())
    }

    fn revoke_permission(&mut self, request: &AuthRoleRevokePermissionRequest) -> Result<(), Refusal> {
        let (name, mut role) = self.role_to_change(&request.role)?;
        let before = role.permissions.len();
        role.permissions.retain(|one| (&one.key, &one.range_end) != (&request.key, &request.range_end));
        if role.permissions.len() == before {
            return Err(Refusal::PermissionNotGranted);
        }
        self.rise();
        self.put_role(name, role);
        Ok(())
    }

    fn user_to_change(&self, name: &str) -> Result<(Arc<str>, User), Refusal> {
        let (name, user) = self.users.get_key_value(name).ok_or(Refusal::UserNotFound)?;
        Ok((Arc::clone(name), User::clone(user)))
    }

    fn role_to_change(&self, name: &str) -> Result<(Arc<str>, Role), Refusal> {
        let (name, role) = self.roles.get_key_value(name).ok_or(Refusal::RoleNotFound)?;
        Ok((Arc::clone(name), Role::clone(role)))
    }

    fn put_user(&mut self, name: Arc<str>, mut user: User) {
        user.permits = OnceLock::new();
        self.changed.users.insert(Arc::clone(&name));
        self.users.insert(name, Arc::new(user));
    }

    fn put_role(&mut self, name: Arc<str>, role: Role) {
        for user in self.users.values_mut().filter(|user| user.roles.contains(&name)) {
            Arc::make_mut(user).permits = OnceLock::new();
        }
        self.changed.roles.insert(Arc::clone(&name));
        self.roles.insert(name, Arc::new(role));
    }

    /// Something has changed. Returns the revision with it.
    fn rise(&mut self) -> u64 {
        self.revision += 1;
        self.changed.state = true;
        self.revision
    }
}
